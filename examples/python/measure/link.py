"""A relay of datagrams that loses some of them, to be put between a peer and the server."""

import asyncio
import random
import re
from collections import deque
from collections.abc import Callable


class Trouble:
    """What happens to packets of one direction: each is lost for itself, or `burst` of them in a row on average; and
    each `STALL_EVERY` seconds all wait until `stall` seconds have passed.

    The same seed loses the same packets.
    """

    STALL_EVERY = 5.0

    def __init__(self, share: float = 0.0, burst: float = 1.0, stall: float = 0.0, seed: int = 1):
        self._share, self._burst, self._stall = share, burst, stall
        self._random = random.Random(seed)
        self._losing = False
        # Of each packet so far, whether it was lost.
        self.fates: list[bool] = []
        # The longest time without a packet: what the peer, or this machine, was late by itself.
        self.gap = 0.0
        self._first = self._last = None
        # What waits, and how it goes on.
        self._held: deque[tuple[bytes, Callable]] = deque()

    def takes(self, now: float) -> bool:
        """Whether the packet that came now is lost."""
        self._first = self._first or now
        self.gap = max(self.gap, now - (self._last or now))
        self._last = now
        if self._burst <= 1:
            self._losing = self._random.random() < self._share
        elif self._losing:
            # Gilbert's model: whoever loses goes on with a fixed probability.
            self._losing = self._random.random() >= 1 / self._burst
        else:
            self._losing = self._random.random() < self._share / (1 - self._share) / self._burst
        self.fates.append(self._losing)
        return self._losing

    def hold(self, now: float, datagram: bytes, send: Callable):
        """Sends what came now, in its turn."""
        late = (now - self._first + self._stall) % self.STALL_EVERY
        if late >= self._stall and not self._held:
            send(datagram)
            return
        if not self._held:
            asyncio.get_running_loop().call_at(now + self._stall - late, self._release)
        self._held.append((datagram, send))

    def _release(self):
        while self._held:
            datagram, send = self._held.popleft()
            send(datagram)


class Link(asyncio.DatagramProtocol):
    """The relay. Only RTP is lost: connecting, and what is told about the loss, always gets through."""

    def __init__(self, server_port: int, into: Trouble, out: Trouble):
        self._server = ("127.0.0.1", server_port)
        self.into, self.out = into, out
        self._ways: dict[tuple, asyncio.Future] = {}
        self._transport = None

    @classmethod
    async def open(cls, server_port: int, into: Trouble | None = None, out: Trouble | None = None):
        make = lambda: cls(server_port, into or Trouble(), out or Trouble())
        _, link = await asyncio.get_running_loop().create_datagram_endpoint(make, ("127.0.0.1", 0))
        return link

    @property
    def port(self) -> int:
        return self._transport.get_extra_info("sockname")[1]

    def lead(self, answer: str) -> str:
        """An answer of the server's in which this relay is its only address."""
        lines = [line for line in answer.split("\r\n") if not line.startswith("a=end-of-candidates")]
        first = next(place for place, line in enumerate(lines) if line.startswith("a=candidate:"))
        candidate = re.sub(r"^(a=candidate:\S+ \d+ \S+ \d+) \S+ \d+", rf"\1 127.0.0.1 {self.port}", lines[first])
        others = [line for line in lines if not line.startswith("a=candidate:")]
        return "\r\n".join(others[:first] + [candidate] + others[first:])

    def close(self):
        self._transport.close()
        for way in self._ways.values():
            if way.done():
                way.result().close()

    def connection_made(self, transport):
        self._transport = transport

    def datagram_received(self, datagram: bytes, address):
        if address not in self._ways:
            self._ways[address] = asyncio.ensure_future(self._open_way(address))
        way = self._ways[address]
        # What comes before its way is open is lost; a peer asks again.
        if way.done():
            _pass(datagram, self.into, way.result().sendto)

    async def _open_way(self, address):
        """A socket of its own for each address of the peer, so that the server tells them apart."""
        link = self

        class Way(asyncio.DatagramProtocol):
            def datagram_received(self, datagram, _):
                _pass(datagram, link.out, lambda it: link._transport.sendto(it, address))

        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Way, remote_addr=self._server)
        return transport


def _pass(datagram: bytes, trouble: Trouble, send):
    # RFC 7983 §7 tells RTP and RTCP from the rest, RFC 5761 §4 one from the other.
    if not (len(datagram) >= 12 and 128 <= datagram[0] < 192 and not 192 <= datagram[1] < 224):
        send(datagram)
        return
    now = asyncio.get_running_loop().time()
    if not trouble.takes(now):
        trouble.hold(now, datagram, send)
