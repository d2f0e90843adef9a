"""What is said, and how much of it is left of what was heard."""

import random
import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pesq import pesq
from pystoi import stoi
from scipy.io import wavfile
from scipy.signal import correlate, resample_poly

RATE = 48_000
# Both measures are made for it, and programs hear it.
COMPARED = 16_000
# Root mean square of each passage: a voice that is near a microphone, with room for its peaks.
LEVEL = 0.08
PAUSE = 0.6
# Between sentences that are to interrupt an agent, drawn for each: long enough for it to see that a turn is over, and
# to speak for a while.
ANSWERED = (4.0, 5.0)
# Before and after it all, so that neither the beginning of a call nor its end costs a word.
MARGIN = 1.0
# Seconds that a passage may be beside where the whole was found.
STRAY = 2.0

# Voices of espeak-ng, and what each says: all the sounds of English, numbers, and words that are easily confused.
PASSAGES = [
    (
        "en-us",
        "Good morning. I would like to book a table for four people on Thursday evening, at about half past seven. "
        "We would rather sit outside, if the weather allows it.",
    ),
    (
        "en-us+f3",
        "My number is five five five, zero one seven nine. The street is Juniper Avenue, house thirteen, not thirty, "
        "and the door code is eight six four two.",
    ),
    (
        "en-gb+m3",
        "The ship was loaded with copper, cheese and very thin paper. Although the voyage was long, she measured the "
        "depth each hour and wrote it down with a pencil.",
    ),
    (
        "en-gb-scotland+f2",
        "Could you tell me whether the parcel that I sent last week has arrived yet? It should have been delivered by "
        "yesterday, and nobody has called me.",
    ),
    (
        "en-us+m7",
        "I think that the fault is in the second box from the left. Switch it off, count slowly to ten, and switch it "
        "on again. If the light stays red, please call us.",
    ),
    (
        "en-gb-x-rp+f4",
        "Both thieves thought the path through the forest was safe. They chose the shorter way, heard a judge "
        "laughing, and vanished before he reached the bridge.",
    ),
]


@dataclass
class Speech:
    """Sound of one channel, and from where to where each passage lasts, in seconds."""

    samples: np.ndarray
    spans: list[tuple[float, float]]

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE

    def pcm(self, rate: int) -> np.ndarray:
        return to_pcm(resampled(self.samples, RATE, rate))


@dataclass
class Score:
    """Means over passages, and the worst of them."""

    stoi: float
    stoi_least: float
    pesq: float
    pesq_least: float
    # Milliseconds between the passage that came soonest, by its place in what was sent, and the one that came latest.
    stray_ms: float

    def __str__(self):
        worst = f"least {self.stoi_least:.3f} and {self.pesq_least:.2f}"
        return f"STOI {self.stoi:.3f}, PESQ {self.pesq:.2f} ({worst}), strays {self.stray_ms:.1f} ms"


def make() -> Speech:
    """Has espeak-ng say the passages, one after the other."""
    return _joined((_espeak(voice, text), PAUSE) for voice, text in PASSAGES)


def interruptions(rounds: int, seed: int) -> Speech:
    """Has espeak-ng say the passages so many times, with a pause after each sentence in which an agent answers."""
    said = [_espeak(voice, text) for voice, passage in PASSAGES for text in re.split(r"(?<=[.?]) ", passage)]
    pauses = random.Random(seed)
    return _joined((sentence, pauses.uniform(*ANSWERED)) for sentence in said * rounds)


def _joined(said: Iterable[tuple[np.ndarray, float]]) -> Speech:
    """Pieces with a pause after each, in seconds."""
    silence = np.zeros(int(MARGIN * RATE))
    pieces, spans, length = [silence], [], len(silence)
    for piece, pause in said:
        spans.append((length / RATE, (length + len(piece)) / RATE))
        pieces += [piece, np.zeros(int(pause * RATE))]
        length += len(piece) + len(pieces[-1])
    return Speech(np.concatenate([*pieces, silence]), spans)


def _espeak(voice: str, text: str) -> np.ndarray:
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["espeak-ng", "-v", voice, "-s", "150", "-w", file.name, text], check=True)
        rate, samples = wavfile.read(file.name)
    samples = samples / 32_768
    loud = np.flatnonzero(np.abs(samples) > 0.005)
    samples = resampled(samples[loud[0] : loud[-1] + 1], rate, RATE)
    return np.clip(samples * LEVEL / np.sqrt(np.mean(samples**2)), -0.99, 0.99)


def with_noise(speech: Speech, decibels: float, seed: int) -> Speech:
    """Speech with pink noise under it, `decibels` softer than the passages are."""
    white = np.fft.rfft(np.random.default_rng(seed).standard_normal(len(speech.samples)))
    hertz = np.fft.rfftfreq(len(speech.samples), 1 / RATE)
    # As much in each octave, from 50 Hz on.
    pink = np.fft.irfft(white / np.sqrt(np.maximum(hertz, 50)) * (hertz > 50), len(speech.samples))
    pink *= LEVEL * 10 ** (-decibels / 20) / np.sqrt(np.mean(pink**2))
    return Speech(np.clip(speech.samples + pink, -1, 1), speech.spans)


def score(sent: np.ndarray, spans: list[tuple[float, float]], heard: np.ndarray) -> Score:
    """Compares what was heard with what was sent, both 16 bits at `COMPARED`, passage by passage.

    Each is looked for near where the whole is.
    """
    sent, heard = sent / 32_768, heard / 32_768
    delay = _delay(sent, heard)
    margin = int(STRAY * COMPARED)
    # So that every cut below is within it.
    before = max(0, -delay) + margin
    padded = np.concatenate([np.zeros(before), heard, np.zeros(len(sent) + 2 * margin)])
    stois, pesqs, strays = [], [], []
    for start, end in spans:
        passage = sent[int(start * COMPARED) : int(end * COMPARED)]
        near = before + int(start * COMPARED) + delay - margin
        stray = _delay(passage, padded[near : near + len(passage) + 2 * margin])
        stray = min(max(stray, 0), 2 * margin)
        found = padded[near + stray : near + stray + len(passage)]
        stois.append(stoi(passage, found, COMPARED))
        pesqs.append(pesq(COMPARED, passage, found, "wb") if found.any() else 1.0)
        strays.append(stray * 1_000 / COMPARED)
    return Score(np.mean(stois), min(stois), np.mean(pesqs), min(pesqs), max(strays) - min(strays))


def _delay(reference: np.ndarray, heard: np.ndarray) -> int:
    """By how many samples `heard` is later than `reference`."""
    return int(np.argmax(correlate(heard, reference, "full", "fft"))) - len(reference) + 1


def resampled(samples: np.ndarray, source: int, destination: int) -> np.ndarray:
    if source == destination:
        return samples
    common = np.gcd(source, destination)
    return resample_poly(samples, destination // common, source // common)


def to_pcm(samples: np.ndarray) -> np.ndarray:
    return np.round(np.clip(samples, -1, 32_767 / 32_768) * 32_768).astype("<i2")
