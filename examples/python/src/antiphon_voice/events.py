"""What a program is told of a call. Times are seconds on the call's clock."""

from dataclasses import dataclass

from . import voice_pb2 as pb


@dataclass(frozen=True, slots=True)
class Event:
    at: float


@dataclass(frozen=True, slots=True)
class Audio(Event):
    """Sound of the person's, from `at` on: 16 bits, little-endian, one channel."""

    pcm: bytes
    rate: int
    speech: float
    concealed: bool
    dropped: int


@dataclass(frozen=True, slots=True)
class SpeechStarted(Event):
    turn: int
    start: float


@dataclass(frozen=True, slots=True)
class SpeechEnded(Event):
    turn: int
    end: float


@dataclass(frozen=True, slots=True)
class EagerEnd(Event):
    """The turn is likely over: begin to answer, and be ready to withdraw at `TurnResumed`."""

    turn: int
    start: float
    end: float
    probability: float
    reason: str


@dataclass(frozen=True, slots=True)
class TurnEnded(EagerEnd):
    """The turn is over."""


@dataclass(frozen=True, slots=True)
class TurnResumed(Event):
    turn: int


@dataclass(frozen=True, slots=True)
class BargeCandidate(Event):
    """Somebody speaks while the agent does: it is ducked until it is known what it is."""

    start: float


@dataclass(frozen=True, slots=True)
class BargeIn(Event):
    """The person interrupted; the agent was stopped."""

    start: float
    turn: int


@dataclass(frozen=True, slots=True)
class Backchannel(Event):
    start: float


@dataclass(frozen=True, slots=True)
class FalseInterruption(Event):
    """The agent was stopped for nothing, and may go on from where it was."""


@dataclass(frozen=True, slots=True)
class Idle(Event):
    """Neither spoke for long."""


@dataclass(frozen=True, slots=True)
class Playout(Event):
    """`state` is started, starved, finished, cleared or interrupted."""

    utterance: int
    played: float
    queued: float
    state: str


@dataclass(frozen=True, slots=True)
class MarkReached(Event):
    mark: int
    reached: bool


@dataclass(frozen=True, slots=True)
class Dtmf(Event):
    """The person pressed a key, one of 0-9 * # A-D, and let it go after `duration`."""

    digit: str
    duration: float


@dataclass(frozen=True, slots=True)
class Overflow(Event):
    """More was said than the server holds."""

    utterance: int
    dropped: float


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """Something that was asked for is not done."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """The stream to the server broke and is back. Sound in between is lost."""


def seconds(micros: int) -> float:
    return micros / 1_000_000


def _speech(at, it):
    if it.kind == pb.Speech.STARTED:
        return SpeechStarted(at, it.turn, seconds(it.edge_us))
    return SpeechEnded(at, it.turn, seconds(it.edge_us)) if it.kind == pb.Speech.ENDED else None


def _turn(at, it):
    if it.kind == pb.Turn.RESUMED:
        return TurnResumed(at, it.turn)
    kind = {pb.Turn.EAGER_END: EagerEnd, pb.Turn.ENDED: TurnEnded}.get(it.kind)
    reason = pb.Turn.Reason.Name(it.reason).lower() if it.reason in pb.Turn.Reason.values() else "unknown"
    ends = seconds(it.speech_start_us), seconds(it.speech_end_us)
    return kind and kind(at, it.turn, *ends, it.probability, reason)


def _barge(at, it):
    start = seconds(it.start_us)
    match it.kind:
        case pb.Barge.CANDIDATE:
            return BargeCandidate(at, start)
        case pb.Barge.CONFIRMED:
            return BargeIn(at, start, it.turn)
        case pb.Barge.BACKCHANNEL:
            return Backchannel(at, start)
        case pb.Barge.FALSE_ALARM:
            return FalseInterruption(at)
    return None


def _playout(at, it):
    known = it.state in pb.Playout.State.values()
    state = pb.Playout.State.Name(it.state).lower() if known else "unknown"
    return Playout(at, it.utterance, seconds(it.played_us), seconds(it.queued_us), state)


def event_of(message) -> Event | None:
    """The event of a message; `None` for what programs need not see, or this version does not know."""
    at = seconds(message.at_us)
    kind = message.WhichOneof("what")
    it = kind and getattr(message, kind)
    match kind:
        case "audio":
            return Audio(at, it.pcm, it.rate, it.speech, it.concealed, it.dropped)
        case "speech":
            return _speech(at, it)
        case "turn":
            return _turn(at, it)
        case "barge":
            return _barge(at, it)
        case "playout":
            return _playout(at, it)
        case "idle":
            return Idle(at)
        case "mark":
            return MarkReached(at, it.mark, it.reached)
        case "dtmf":
            return Dtmf(at, it.digit, seconds(it.duration_us))
        case "overflow":
            return Overflow(at, it.utterance, seconds(it.dropped_us))
        case "refused":
            return Refused(at, it.what, it.reason)
    return None
