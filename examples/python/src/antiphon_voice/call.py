"""One call."""

import asyncio
import logging
import time
from collections.abc import AsyncIterable, Iterable

from . import voice_pb2 as pb
from .events import BargeIn, Event, Playout, Resumed, event_of, seconds

log = logging.getLogger("antiphon_voice")

# Seconds of sound sent ahead of playout: what is cleared is mostly still here, and a late word finds no gap.
AHEAD = 2.0
# Seconds of sound in one message.
PIECE = 0.1
# Seconds that the server keeps a call whose stream broke.
GRACE = 5.0


class CallError(Exception):
    """The server ended the call because of what this program sent."""


class Utterance:
    """Something that is being said. Awaiting it waits until nothing more of it is played."""

    def __init__(self, number: int):
        self.number = number
        self.state = "queued"
        self.played = 0.0
        self.feeder: asyncio.Task | None = None
        # The server knows of it.
        self.sent = False
        self._over = asyncio.Event()

    @property
    def interrupted(self) -> bool:
        """The person stopped it. `played` says how many seconds of it they heard."""
        return self.state == "interrupted"

    @property
    def over(self) -> bool:
        return self._over.is_set()

    def __await__(self):
        return self._wait().__await__()

    async def _wait(self):
        await self._over.wait()
        return self

    def _note(self, playout: Playout):
        self.state, self.played = playout.state, playout.played
        if playout.state in ("finished", "cleared", "interrupted"):
            self._end()

    def _drop(self):
        """The person interrupted before the server knew of it."""
        self.state = "interrupted"
        self._end()

    def _end(self):
        if self.feeder and self.feeder is not asyncio.current_task():
            self.feeder.cancel()
        self._over.set()


class Call:
    """A call with a person. `async for event in call` gives its events and ends with the call.

    `stream` has `read()`, which gives `None` at the end and raises when the stream broke, and `write(message)`.
    `rejoin()` gives another such stream, or `None` in time.
    """

    def __init__(self, stream, start: pb.ToAgent, rejoin):
        self._stream, self._rejoin = stream, rejoin
        self._writing = asyncio.Lock()
        self._writes: set[asyncio.Task] = set()
        self._reading: asyncio.Task | None = None
        self._utterances: dict[int, Utterance] = {}
        # A program that was started again must not say anything under a number that it cleared before.
        self._next = time.time_ns() // 1_000_000
        self._said_until = 0.0
        # Held by the utterance that is being sent. Others wait in the order in which they were said.
        self._saying = asyncio.Lock()
        self.ended = False
        self._begin(start)

    def _begin(self, start: pb.ToAgent):
        it = start.start
        self.token, self.agent, self.session = it.token, it.agent, it.session
        self.rate, self.batch = it.hearing.rate, it.hearing.batch_ms / 1_000
        self.resumed, self.dtmf = it.resumed, it.dtmf
        self._ahead = min(AHEAD, seconds(it.high_water_us) or AHEAD)

    def __aiter__(self):
        return self

    async def __anext__(self) -> Event:
        while not self.ended:
            message = await self._next_message()
            if message is None:
                break
            kind = message.WhichOneof("what")
            if kind == "start":
                self._begin(message)
                return Resumed(seconds(message.at_us))
            if kind == "end":
                self._note_end(message.end)
                continue
            event = event_of(message)
            if isinstance(event, Playout):
                self._note_playout(event)
            elif isinstance(event, BargeIn):
                self._drop_unsent()
            if event is not None:
                return event
        self._finish()
        raise StopAsyncIteration

    async def say(self, pcm, rate: int | None = None, interruptible: bool = True) -> Utterance:
        """Says something behind what was said before: bytes, or an iterable of bytes, asynchronous or not. Returns at
        once."""
        if not isinstance(pcm, AsyncIterable | Iterable) or isinstance(pcm, str):
            raise TypeError("pcm is bytes, or an iterable of bytes")
        self._next += 1
        utterance = Utterance(self._next)
        self._utterances[utterance.number] = utterance
        feeding = self._feed(utterance, pcm, rate or self.rate, interruptible)
        utterance.feeder = asyncio.create_task(feeding)
        if self.ended:
            utterance._end()
        return utterance

    async def clear(self, utterance: Utterance | None = None):
        """Stops saying an utterance, or everything, keys that wait included. Await the utterance for the place it got to."""
        concerned = [utterance] if utterance else list(self._utterances.values())
        for it in concerned:
            if it.feeder:
                it.feeder.cancel()
        # By name also what "everything" cannot mean to the server, which has seen nothing of it.
        for it in concerned:
            if utterance or not it.sent:
                await self._ask(clear=pb.Clear(utterance=it.number))
        if not utterance:
            await self._ask(clear=pb.Clear())

    async def mark(self) -> int:
        """Has `MarkReached` come when what was said so far has been played; its number."""
        self._next += 1
        await self._ask(mark=pb.Mark(mark=self._next))
        return self._next

    async def hint(self, turn: int, text: str, complete: float | None = None, backchannel: bool | None = None):
        """Tells what a recogniser makes of the turn so far, so that it ends when a sentence does."""
        judged = {"complete": complete, "backchannel": backchannel}
        judged = {name: value for name, value in judged.items() if value is not None}
        await self._ask(hint=pb.TranscriptHint(turn=turn, text=text, **judged))

    async def configure(self, eagerness: str):
        """Changes how soon turns end: eager, balanced or patient."""
        await self._ask(configure=pb.Configure(eagerness=pb.Eagerness.Value(eagerness.upper())))

    async def send_dtmf(self, digits: str):
        """Presses keys, of 0-9 * # A-D, after what was said so far. `Refused` comes where `call.dtmf` is false, and of
        those beyond the 64 that may wait."""
        await self._ask(dtmf=pb.SendDtmf(digits=digits))

    async def hang_up(self):
        """Ends the call, whatever still waits to be said."""
        await self._ask(hang_up=pb.HangUp())

    async def _feed(self, *what):
        async with self._saying:
            await self._send_all(*what)

    async def _send_all(self, utterance: Utterance, pcm, rate: int, interruptible: bool):
        piece = int(rate * PIECE) * 2
        held = b""
        try:
            async for some in _pieces(pcm):
                held += some
                whole = len(held) // piece * piece
                for at in range(0, whole, piece):
                    await self._send(utterance, held[at : at + piece], rate, interruptible, last=False)
                held = held[whole:]
        except Exception:
            log.exception("an utterance broke off by an error in the program")
        await self._send(utterance, held[: len(held) // 2 * 2], rate, interruptible, last=True)

    async def _send(self, utterance, pcm, rate, interruptible, last):
        length = len(pcm) / 2 / rate
        while (early := self._said_until - time.monotonic() - self._ahead) > 0:
            await asyncio.sleep(min(early, PIECE))
        self._said_until = max(self._said_until, time.monotonic()) + length
        say = pb.Say(utterance=utterance.number, pcm=pcm, rate=rate, last=last, uninterruptible=not interruptible)
        utterance.sent = True
        await self._ask(say=say)

    async def _ask(self, **what):
        """Writes a message, to its end even when whoever asks is cancelled: gRPC ends a call whose write is."""
        if self.ended:
            return
        write = asyncio.create_task(self._write(pb.FromAgent(**what)))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        await asyncio.shield(write)

    async def _write(self, message: pb.FromAgent):
        """One that meets a broken stream is lost; whoever reads events then joins again."""
        async with self._writing:
            try:
                await self._stream.write(message)
            except ConnectionError:
                pass

    async def _next_message(self):
        """As `_read`, which goes on for whoever comes next when this is cancelled: gRPC ends a call whose read is."""
        reading = self._reading = self._reading or asyncio.create_task(self._read())
        await asyncio.wait({reading})
        self._reading = None
        return reading.result()

    async def _read(self):
        """The next message, over another stream if this one broke; `None` when there is none any more."""
        try:
            return await self._stream.read()
        except ConnectionError:
            if self.ended:
                return None
            try:
                stream = await asyncio.wait_for(self._rejoin(), GRACE)
            except TimeoutError:
                return None
            if stream is None:
                return None
            self._stream = stream
            return await self._read()

    def _note_end(self, end: pb.End):
        if end.kind == pb.End.AT_FAULT:
            self._finish()
            raise CallError(end.detail)
        # After a stall the stream breaks, and is joined again.
        if end.kind in (pb.End.CALL_ENDED, pb.End.TAKEN_OVER):
            self.ended = True

    def _note_playout(self, playout: Playout):
        if playout.state in ("cleared", "interrupted"):
            self._said_until = time.monotonic() + playout.queued
        utterance = self._utterances.get(playout.utterance)
        if utterance:
            utterance._note(playout)
            if utterance.over:
                del self._utterances[playout.utterance]

    def _drop_unsent(self):
        """What the server has it stops by itself. What a program says once it knows of the interruption goes on."""
        for utterance in [it for it in self._utterances.values() if not it.sent]:
            utterance._drop()
            del self._utterances[utterance.number]

    def _finish(self):
        self.ended = True
        for utterance in self._utterances.values():
            utterance._end()
        self._utterances.clear()


async def _pieces(pcm):
    if isinstance(pcm, bytes | bytearray | memoryview):
        yield bytes(pcm)
    elif isinstance(pcm, AsyncIterable):
        async for piece in pcm:
            yield piece
    else:
        for piece in pcm:
            yield piece
