"""Answers voice calls of an Antiphon server.

    async def answer(call):
        async for event in call:
            if isinstance(event, TurnEnded):
                said = await call.say(pcm)

    asyncio.run(wait_for_calls("bot", answer))
"""

from .call import Call, CallError, Utterance
from .connect import serve, wait_for_calls
from .events import (
    Audio,
    Backchannel,
    BargeCandidate,
    BargeIn,
    Dtmf,
    EagerEnd,
    Event,
    FalseInterruption,
    Idle,
    MarkReached,
    Overflow,
    Playout,
    Refused,
    Resumed,
    SpeechEnded,
    SpeechStarted,
    TurnEnded,
    TurnResumed,
)

__all__ = [
    "Audio",
    "Backchannel",
    "BargeCandidate",
    "BargeIn",
    "Call",
    "CallError",
    "Dtmf",
    "EagerEnd",
    "Event",
    "FalseInterruption",
    "Idle",
    "MarkReached",
    "Overflow",
    "Playout",
    "Refused",
    "Resumed",
    "SpeechEnded",
    "SpeechStarted",
    "TurnEnded",
    "TurnResumed",
    "Utterance",
    "serve",
    "wait_for_calls",
]
