#!/usr/bin/env python3
"""Says each turn of the person's back, and stops when they speak again."""

import argparse
import asyncio
import logging

from antiphon_voice import Audio, BargeIn, SpeechStarted, TurnEnded, serve, wait_for_calls

# Seconds of sound kept from before speech began, and from after it.
MARGIN = 0.2
# Seconds of a turn that are kept at most.
TURN_MAX = 30.0


class Recording:
    """The last of what was heard, from which a turn is cut."""

    def __init__(self):
        self.pieces: list[Audio] = []

    def add(self, audio: Audio):
        self.pieces.append(audio)
        while audio.at - self.pieces[0].at > TURN_MAX:
            del self.pieces[0]

    def cut(self, start: float, end: float) -> bytes:
        return b"".join(self._part(piece, start, end) for piece in self.pieces)

    @staticmethod
    def _part(piece: Audio, start: float, end: float) -> bytes:
        def place(at: float) -> int:
            return min(max(round((at - piece.at) * piece.rate), 0) * 2, len(piece.pcm))

        return piece.pcm[place(start) : place(end)]


async def answer(call):
    logging.info("call %s", call.session)
    recording, start = Recording(), 0.0
    turn = None
    async for event in call:
        match event:
            case Audio():
                recording.add(event)
            case SpeechStarted() | BargeIn() if event.turn != turn:
                turn, start = event.turn, event.start
            case TurnEnded():
                pcm = recording.cut(start - MARGIN, event.end + MARGIN)
                said = await call.say(pcm)
                delay = event.at - event.end
                logging.info("turn %d: %.2f s, known to be over after %.2f s", event.turn, len(pcm) / 2 / call.rate, delay)
                asyncio.create_task(report(said))
    logging.info("call %s has ended", call.session)


async def report(said):
    await said
    logging.info("said %.2f s of it: %s", said.played, said.state)


def options(about: str, name: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--name", default=name, help="what callers ask for: POST /whip?agent=NAME")
    parser.add_argument("--server", default="127.0.0.1:50051", help="where the server's --grpc is")
    parser.add_argument("--token", help="a token of scope `agent`, if the server asks for one")
    parser.add_argument("--tls", action="store_true", help="the server's gRPC port is encrypted")
    parser.add_argument("--ca", help="a file of certificates (PEM) to trust; implies --tls")
    parser.add_argument("--serve", metavar="ADDRESS", help="listen for a server that dials instead (--agent-url)")
    return parser.parse_args()


def run(answer, about: str, name: str):
    """Answers calls with `answer`, the way the command line says."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    chosen = options(about, name)
    if chosen.serve:
        meeting = serve(answer, chosen.serve)
    else:
        certificates = open(chosen.ca, "rb").read() if chosen.ca else None
        meeting = wait_for_calls(
            chosen.name, answer, chosen.server, chosen.token, certificates=certificates, tls=chosen.tls
        )
    try:
        asyncio.run(meeting)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    run(answer, __doc__, "echo-back")
