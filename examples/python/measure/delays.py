"""What a server's own histograms say of its calls, and what is wanted of them."""

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Wanted:
    """A histogram, what it measures, and how many milliseconds shares of it may take at most."""

    histogram: str
    words: str
    most: dict[float, float]


WANTED = [
    Wanted("hearing_delay", "a packet came, and its sound was told", {0.5: 25, 0.99: 60}),
    Wanted("speaking_delay", "a packet was due, and was sent", {0.5: 25, 0.99: 60}),
    Wanted("processing", "20 ms were decoded, analysed and judged", {0.99: 2}),
    Wanted("ducking_delay", "a voice began, and the agent was ducked", {0.5: 130}),
    Wanted("interruption_delay", "a voice began, and the agent's last packet went", {0.5: 300}),
]


class Histogram:
    """Counts by upper bound, and their sum, in milliseconds, of all shards together."""

    def __init__(self, metrics: str, name: str):
        # Each count holds those of smaller bounds.
        self._within: dict[float, int] = {}
        for labels, count in re.findall(rf"^antiphon_{name}_seconds_bucket{{(.*)}} (\d+)$", metrics, re.MULTILINE):
            bound = 1_000 * float(re.search(r'le="([^"]+)"', labels)[1].replace("+Inf", "inf"))
            self._within[bound] = self._within.get(bound, 0) + int(count)
        sums = re.findall(rf"^antiphon_{name}_seconds_sum{{.*}} (\S+)$", metrics, re.MULTILINE)
        self._sum = 1_000 * sum(map(float, sums))
        if not self._within:
            raise SystemExit(f"the server has no histogram antiphon_{name}_seconds")

    @property
    def count(self) -> int:
        return self._within[math.inf]

    def since(self, earlier: "Histogram") -> "Histogram":
        """What was counted after `earlier` was read."""
        for bound, count in earlier._within.items():
            self._within[bound] -= count
        self._sum -= earlier._sum
        return self

    @property
    def mean(self) -> float:
        return self._sum / self.count if self.count else math.nan

    def within(self, share: float) -> float:
        """The least bound that holds this share of all: a share of them took that long at most."""
        return next(bound for bound in sorted(self._within) if self._within[bound] >= share * self.count)

    def words(self, share: float) -> str:
        bound = self.within(share)
        if bound < math.inf:
            return f"<= {bound:g} ms"
        return f"> {sorted(self._within)[-2]:g} ms"


def read(metrics: str) -> dict[str, Histogram]:
    return {it.histogram: Histogram(metrics, it.histogram) for it in WANTED}
