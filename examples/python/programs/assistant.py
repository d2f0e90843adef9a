#!/usr/bin/env python3
"""The shape of an assistant: recogniser, language model, synthesiser. All three are stand-ins, marked as such."""

import asyncio
import logging
import math
import struct

from antiphon_voice import Audio, EagerEnd, FalseInterruption, SpeechStarted, TurnEnded, TurnResumed
from echo_back import run

RATE = 24_000


class StandInRecogniser:
    """STAND-IN for a streaming recogniser (ASR). A real one takes `audio.pcm` as it comes and gives text as it goes.

    This one counts seconds of sound and calls them words.
    """

    def __init__(self):
        self.heard = 0.0

    def hear(self, audio: Audio):
        if audio.speech > 0.5:
            self.heard += len(audio.pcm) / 2 / audio.rate

    def text(self) -> str:
        return " ".join(["word"] * int(self.heard * 2.5))

    def reset(self):
        self.heard = 0.0


async def stand_in_model(history: list[tuple[str, str]]):
    """STAND-IN for a language model (LLM) that streams its answer by sentences."""
    count = len(history[-1][1].split())
    for sentence in (f"I heard about {count} words.", "What else?"):
        await asyncio.sleep(0.05)
        yield sentence


async def stand_in_voice(sentences):
    """STAND-IN for a synthesiser (TTS) that streams sound: a beep for each word."""
    async for sentence in sentences:
        for number, _ in enumerate(sentence.split()):
            hertz = 300 + 40 * number
            wave = (math.sin(math.tau * hertz * at / RATE) * min(at, 3_600 - at, 240) / 240 for at in range(3_600))
            yield b"".join(struct.pack("<h", int(8_000 * sample)) for sample in wave) + bytes(2 * 1_200)


async def answer(call):
    recogniser, history = StandInRecogniser(), []
    saying, turn = None, 0
    async for event in call:
        match event:
            case Audio():
                recogniser.hear(event)
            case SpeechStarted():
                turn = event.turn
            case TurnEnded():
                text = recogniser.text()
                recogniser.reset()
                # A real program cuts what it said down to what was heard before it asks its model again.
                if saying and saying.interrupted:
                    history.append(("assistant", f"(interrupted after {saying.played:.1f} s)"))
                history.append(("person", text))
                saying = await call.say(stand_in_voice(stand_in_model(history)), rate=RATE)
            case EagerEnd():
                # A real program may begin to think here, and must throw the answer away at `TurnResumed`.
                # What the recogniser has tells the server whether the sentence is over.
                await call.hint(turn, recogniser.text())
            case TurnResumed():
                logging.info("the person goes on")
            case FalseInterruption():
                # Nobody had spoken: a real program may say the rest, from `saying.played` on.
                logging.info("interrupted for nothing after %.1f s", saying.played if saying else 0.0)


if __name__ == "__main__":
    run(answer, __doc__, "assistant")
