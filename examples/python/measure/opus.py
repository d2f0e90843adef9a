"""Opus packets: made with or without in-band FEC, and played with or without it.

The encoder is PyAV's. Its decoder can neither use FEC nor conceal, so the player calls the libopus that comes with it.
"""

import ctypes
from pathlib import Path

import av
import numpy as np

RATE = 48_000
# 20 ms.
FRAME = 960


def encode(samples: np.ndarray, bitrate: int, fec: bool, loss_percent: int) -> list[bytes]:
    """Packets of speech, as a browser makes them: VoIP, one channel."""
    codec = av.CodecContext.create("libopus", "w")
    codec.bit_rate, codec.sample_rate, codec.format, codec.layout = bitrate, RATE, "s16", "mono"
    codec.options = {"application": "voip", "fec": str(int(fec)), "packet_loss": str(loss_percent)}
    packets = []
    for start in range(0, len(samples) - FRAME + 1, FRAME):
        frame = av.AudioFrame.from_ndarray(samples[start : start + FRAME].reshape(1, -1), "s16", "mono")
        frame.sample_rate, frame.pts = RATE, start
        packets += codec.encode(frame)
    return [bytes(packet) for packet in packets + codec.encode(None)]


def play(packets: dict[int, bytes], rate: int, fec: bool) -> np.ndarray:
    """The sound of packets of 20 ms numbered from 0 on; what is missing is taken from the next (FEC) or made up."""
    library = _library()
    error = ctypes.c_int()
    decoder = ctypes.c_void_p(library.opus_decoder_create(rate, 1, ctypes.byref(error)))
    frames = []
    for place in range(max(packets) + 1):
        packet = packets.get(place)
        # Of a packet that has no copy of the one before it, libopus makes something up.
        mends = packet is None and fec and place + 1 in packets
        if mends:
            packet = packets[place + 1]
        samples = np.zeros(rate // 50, dtype=np.int16)
        out = samples.ctypes.data_as(ctypes.c_void_p)
        if library.opus_decode(decoder, packet, len(packet or b""), out, len(samples), int(mends)) != len(samples):
            raise ValueError("libopus found something else than a packet of 20 ms")
        frames.append(samples)
    library.opus_decoder_destroy(decoder)
    return np.concatenate(frames)


def share_with_fec(packets: list[bytes]) -> float:
    """How many of the packets carry the one before them once more, of all."""
    has = _library().opus_packet_has_lbrr
    return sum(has(packet, len(packet)) == 1 for packet in packets) / len(packets)


def _library():
    found = sorted(Path(av.__file__).parent.with_name("av.libs").glob("libopus*"))
    if not found:
        raise SystemExit("PyAV's wheel has no libopus beside it: install `av` from a wheel")
    library = ctypes.CDLL(str(found[0]))
    library.opus_decoder_create.restype = ctypes.c_void_p
    return library
