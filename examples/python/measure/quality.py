#!/usr/bin/env python3
"""Measures what is left of speech on its way through a server (STOI and wide-band PESQ), and how long the server takes,
as Markdown tables.

espeak-ng says six passages in six voices. They go from Chromium's microphone or from aiortc to a program over gRPC
("in"), or from a program to aiortc ("out"), over loopback and a relay that loses packets by a seed. For the delays
("delays"), which the server counts itself, sentence after sentence interrupts a program that speaks without end.
"""

import argparse
import asyncio
import itertools
import logging
import multiprocessing
import signal
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from scipy.io import wavfile

import delays
import opus
import speech
from ends import Aiortc, Browser, Lecturer, Listener, Packets, Server, Speaker
from link import Link, Trouble

# Share of packets lost, how many in a row on average, and how many seconds all packets wait now and then.
CLEAN = (0.0, 1.0, 0.0)
LOSSES = {
    "0 %": CLEAN,
    "1 %": (0.01, 1.0, 0.0),
    "3 %": (0.03, 1.0, 0.0),
    "5 %": (0.05, 1.0, 0.0),
    "10 %": (0.10, 1.0, 0.0),
    "20 %": (0.20, 1.0, 0.0),
    "5 %, 3 in a row": (0.05, 3.0, 0.0),
    "10 %, 3 in a row": (0.10, 3.0, 0.0),
}
# What Wi-Fi does: nothing is lost.
STALLS = {f"{1_000 * stall:.0f} ms each {Trouble.STALL_EVERY:.0f} s": (0.0, 1.0, stall) for stall in (0.05, 0.1, 0.2)}
# Seconds between two packets after which a machine was too busy to be measured on: the call is tried again.
GAP_MAX = 0.06
TRIALS = 6
# What Chromium chooses for one channel of speech.
BITRATE = 32_000
# What the sender expects to be lost, as the server's own encoder does.
EXPECTED_PERCENT = 10
# What synthesisers give.
SAID_RATE = 24_000
NOISE_DB = 10.0
# Who interrupts sits in a quiet room, so many decibels louder than it.
ROOM_DB = 40.0
# How many times all sentences are said.
ROUNDS = 3
# Of the sentences, those that interrupt the program at least: less is an error, as is a missed delay.
INTERRUPTING_LEAST = 0.9
# Of STOI, each way, where nothing is lost: less is an error.
CLEAN_LEAST = 0.95


class Measurement:
    """What all calls have in common."""

    def __init__(self, chosen: argparse.Namespace, server: Server):
        self.chosen, self.server = chosen, server
        self.sent = speech.make()
        self.reference = self.sent.pcm(speech.COMPARED)
        self._numbers = itertools.count(1)
        self._places = asyncio.Semaphore(chosen.together)
        # What computes for seconds must not keep the packets of other calls waiting.
        self._apart = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))

    async def apart(self, function, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self._apart, function, *arguments)

    def keep(self, name: str, heard: np.ndarray):
        if self.chosen.keep:
            self.chosen.keep.mkdir(parents=True, exist_ok=True)
            wavfile.write(self.chosen.keep / f"{name}.wav", speech.COMPARED, heard)

    async def score(self, name: str, heard: np.ndarray) -> speech.Score:
        self.keep(name, heard)
        score = await self.apart(speech.score, self.reference, self.sent.spans, heard)
        logging.info("%s: %s", name, score)
        return score

    async def trying(self, name: str, trouble: tuple, call):
        """What comes of a call, and its path; of the first one in which this machine kept up."""
        for _ in range(TRIALS):
            path = Trouble(*trouble, self.chosen.seed)
            async with self._places:
                outcome = await call(f"quality-{next(self._numbers)}", path)
            words = f"{len(path.fates)} packets, {100 * np.mean(path.fates):.2f} % lost"
            logging.info("%s: %s, %.0f ms between two at most", name, words, 1_000 * path.gap)
            if path.gap < GAP_MAX:
                break
        else:
            logging.warning("%s: this machine was too busy each time", name)
        return outcome, path

    async def hear_aiortc(self, name: str, trouble: tuple, fec: bool, said=None, denoise=False):
        """What a program hears of aiortc, and what libopus alone makes of the same packets."""
        pcm = (said or self.sent).pcm(opus.RATE)
        packets = await self.apart(opus.encode, pcm, BITRATE, fec, EXPECTED_PERCENT)

        async def call(agent, path):
            listener = Listener(self.server, agent, speech.COMPARED, denoise)
            link = await Link.open(self.server.media_port, into=path)
            caller, track = Aiortc(self.server, link), Packets(packets)
            await caller.call(agent, track)
            await track.done.wait()
            await asyncio.sleep(0.5)
            await caller.hang_up()
            listener.stop()
            link.close()
            return listener

        listener, path = await self.trying(name, trouble, call)
        note_heard(name, listener, packets)
        arrived = {place: packet for place, (packet, lost) in enumerate(zip(packets, path.fates)) if not lost}
        alone = await self.apart(opus.play, arrived, speech.COMPARED, fec)
        return await self.score(name, listener.heard()), await self.score(f"{name}, libopus alone", alone)

    async def hear_chromium(self, name: str, trouble: tuple, fec: bool = True):
        """What a program hears of Chromium."""
        microphone_pcm = self.sent.pcm(speech.RATE)

        async def call(agent, path):
            listener = Listener(self.server, agent, speech.COMPARED)
            link = await Link.open(self.server.media_port, into=path)
            with tempfile.NamedTemporaryFile(suffix=".wav") as microphone:
                wavfile.write(microphone.name, speech.RATE, microphone_pcm)
                browser = Browser(self.chosen.chromium, self.server, link, agent, microphone.name, fec)
                try:
                    await listener.listen(self.sent.seconds + 1)
                finally:
                    await asyncio.to_thread(browser.stop)
            listener.stop()
            link.close()
            return listener

        listener, _ = await self.trying(name, trouble, call)
        note_heard(name, listener)
        return await self.score(name, listener.heard())

    async def interrupt(self, name: str) -> dict[str, delays.Histogram]:
        """What the server counts while aiortc interrupts a program."""
        said = speech.with_noise(speech.interruptions(ROUNDS, self.chosen.seed), ROOM_DB, self.chosen.seed)
        packets = await self.apart(opus.encode, said.pcm(opus.RATE), BITRATE, True, EXPECTED_PERCENT)

        async def call(agent, path):
            before = delays.read(await asyncio.to_thread(self.server.metrics))
            lecturer = Lecturer(self.server, agent, self.sent.pcm(SAID_RATE), SAID_RATE)
            link = await Link.open(self.server.media_port, into=path)
            caller, track = Aiortc(self.server, link), Packets(packets)
            await caller.call(agent, track)
            await track.done.wait()
            await caller.hang_up()
            lecturer.stop()
            link.close()
            after = delays.read(await asyncio.to_thread(self.server.metrics))
            return {histogram: after[histogram].since(before[histogram]) for histogram in after}

        counted, _ = await self.trying(name, CLEAN, call)
        interruptions = counted["interruption_delay"].count
        if interruptions < INTERRUPTING_LEAST * len(said.spans):
            raise SystemExit(f"{name}: {len(said.spans)} sentences interrupted the program {interruptions} times only")
        return counted

    async def say(self, name: str, trouble: tuple) -> Aiortc:
        """Has a program say it all to aiortc."""
        silence = np.zeros(len(self.sent.samples), dtype="<i2")
        silence = await self.apart(opus.encode, silence, BITRATE, False, 0)
        pcm = self.sent.pcm(SAID_RATE)

        async def call(agent, path):
            speaker = Speaker(self.server, agent, pcm, SAID_RATE)
            link = await Link.open(self.server.media_port, out=path)
            caller = Aiortc(self.server, link)
            await caller.call(agent, Packets(silence))
            await asyncio.wait_for(speaker.done.wait(), self.sent.seconds + 30)
            await caller.hang_up()
            speaker.stop()
            link.close()
            return caller

        caller, _ = await self.trying(name, trouble, call)
        logging.info("%s: %s", name, carried(list(caller.packets.values())))
        return caller


def note_heard(name: str, listener: Listener, packets: list[bytes] | None = None):
    if listener.seconds == 0:
        raise SystemExit(f"{name}: the program heard nothing")
    words = f"{100 * listener.concealed:.1f} % of pieces concealed, {listener.dropped} dropped"
    logging.info("%s: %s", name, f"{words}, {carried(packets)}" if packets else words)


def carried(packets: list[bytes]) -> str:
    return f"{100 * opus.share_with_fec(packets):.0f} % of packets carry FEC"


async def clean(it: Measurement):
    ways = {}
    if it.chosen.chromium:
        ways["Chromium to a program"] = await it.hear_chromium("Chromium", CLEAN)
    ways["aiortc to a program"], _ = await it.hear_aiortc("aiortc", CLEAN, True)
    heard = speech.resampled((await it.say("program", CLEAN)).heard(), opus.RATE, speech.COMPARED)
    ways["a program to aiortc"] = await it.score("program", speech.to_pcm(heard))
    head = ["nothing is lost", "STOI / PESQ", "the least of a passage"]
    table(head, [[way, cell(it), f"{it.stoi_least:.3f} / {it.pesq_least:.2f}"] for way, it in ways.items()])
    poor = [way for way, score in ways.items() if score.stoi < CLEAN_LEAST]
    if poor:
        raise SystemExit(f"{', '.join(poor)}: less than {CLEAN_LEAST} of STOI is left")


async def loss_in(it: Measurement):
    async def row(trouble, words):
        both = [it.hear_aiortc(f"aiortc, {words}, FEC {fec}", trouble, fec) for fec in (False, True)]
        (without, _), (with_fec, alone) = await asyncio.gather(*both)
        return without, with_fec, alone

    await troubled("aiortc to a program", LOSSES, row, ["no FEC", "FEC", "libopus alone, FEC"])


async def loss_in_browser(it: Measurement):
    async def row(trouble, words):
        both = [it.hear_chromium(f"Chromium, {words}, FEC {fec}", trouble, fec) for fec in (False, True)]
        return await asyncio.gather(*both)

    await troubled("Chromium to a program", LOSSES, row, ["no FEC", "FEC"])


async def loss_out(it: Measurement):
    async def row(trouble, words):
        name = f"program, {words}"
        packets = (await it.say(name, trouble)).packets
        heard = [await it.apart(opus.play, packets, speech.COMPARED, fec) for fec in (False, True)]
        return [await it.score(f"{name}, FEC {fec}", sound) for fec, sound in zip((False, True), heard)]

    await troubled("a program to a person", LOSSES, row, ["FEC not used", "FEC used"])


async def stalls(it: Measurement):
    heard = [it.hear_aiortc(f"aiortc, {words}", trouble, True) for words, trouble in STALLS.items()]
    scores = [score for score, _ in await asyncio.gather(*heard)]
    head = ["all packets to a program wait", "STOI / PESQ", "made up beside what was said, ms"]
    table(head, [[words, cell(score), f"{score.stray_ms:.0f}"] for words, score in zip(STALLS, scores)])


async def noise(it: Measurement):
    noisy = speech.with_noise(it.sent, NOISE_DB, it.chosen.seed)
    sent = await it.score("noise, sent", noisy.pcm(speech.COMPARED))
    heard = [it.hear_aiortc(f"noise, denoise {on}", CLEAN, True, noisy, on) for on in (False, True)]
    (raw, _), (denoised, _) = await asyncio.gather(*heard)
    rows = {"as it was sent": sent, "heard raw": raw, "heard denoised": denoised}
    head = [f"pink noise at {NOISE_DB:.0f} dB", "STOI / PESQ"]
    table(head, [[words, cell(score)] for words, score in rows.items()])


async def delayed(it: Measurement):
    counted = await it.interrupt("delays")
    rows, missed = [], []
    for wanted in delays.WANTED:
        histogram = counted[wanted.histogram]
        most = ", ".join(f"p{100 * share:g} <= {ms:g} ms" for share, ms in wanted.most.items())
        shares = [histogram.words(share) for share in (0.5, 0.99)]
        rows.append([wanted.words, str(histogram.count), f"{histogram.mean:.1f} ms", *shares, most])
        if any(histogram.within(share) > ms for share, ms in wanted.most.items()):
            missed.append(wanted.histogram)
    table(["from and to", "times", "mean", "p50", "p99", "wanted"], rows)
    if missed:
        raise SystemExit(f"{', '.join(missed)}: longer than wanted")


async def troubled(way: str, troubles: dict[str, tuple], row, heads: list[str]):
    scores = await asyncio.gather(*(row(trouble, words) for words, trouble in troubles.items()))
    table([way, *heads], [[words, *map(cell, row)] for words, row in zip(troubles, scores)])


def cell(score: speech.Score) -> str:
    return f"{score.stoi:.3f} / {score.pesq:.2f}"


def table(head: list[str], rows: list[list[str]]):
    for line in [head, ["---"] * len(head), *rows]:
        print("| " + " | ".join(line) + " |")
    print(flush=True)


TABLES = {
    "clean": clean,
    "in": loss_in,
    "browser": loss_in_browser,
    "out": loss_out,
    "stalls": stalls,
    "noise": noise,
    "delays": delayed,
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = f"which to make, of {', '.join(TABLES)}; left out: all"
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=which)
    parser.add_argument("--antiphon", default="target/release/antiphon", help="the server's program")
    parser.add_argument("--chromium", default="chromium", help="the browser's program; empty: do without")
    parser.add_argument("--seed", type=int, default=1, help="which packets are lost")
    parser.add_argument("--together", type=int, default=1, help="calls at one time")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep what was heard, as WAV files of 16 kHz")
    chosen = parser.parse_args()
    unknown = set(chosen.tables) - set(TABLES)
    if unknown:
        parser.error(f"no table is named {', '.join(sorted(unknown))}")
    return chosen


async def measure(chosen: argparse.Namespace):
    server = Server(chosen.antiphon)
    try:
        it = Measurement(chosen, server)
        it.keep("sent", it.reference)
        for name in chosen.tables or TABLES:
            if name != "browser" or chosen.chromium:
                await TABLES[name](it)
    finally:
        server.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # It tells of each check of each pair of candidates.
    logging.getLogger("aioice").setLevel(logging.WARNING)
    # Whoever is told to end ends the server and the browser too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    asyncio.run(measure(options()))
