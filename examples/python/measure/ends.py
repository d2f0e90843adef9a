"""The ends of a call: the server, programs that hear and speak, and the people who call them (aiortc and Chromium)."""

import asyncio
import contextlib
import fractions
import http.server
import itertools
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

import opus
from antiphon_voice import Audio, FalseInterruption, TurnEnded, wait_for_calls
from link import Link

# A connection, or an agent's name, may take so long to be there.
PATIENCE = 15.0
# As the tests of the page start it, and why is said there: server/tests/browser/chromium.rs.
CHROMIUM_FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling",
]
# The microphone is opened once the call is, since the file begins to play with it, and nothing in the browser may
# change what it hears. The server is reached through this page's own, which leads the answer over the link.
PAGE = """<!doctype html><script type="module">
const pc = new RTCPeerConnection();
const { sender } = pc.addTransceiver('audio', { direction: 'sendrecv' });
const connected = new Promise((resolve) => pc.addEventListener('connectionstatechange',
  () => { if (pc.connectionState === 'connected') resolve(); }));
const gathered = new Promise((resolve) => pc.addEventListener('icegatheringstatechange',
  () => { if (pc.iceGatheringState === 'complete') resolve(); }));
await pc.setLocalDescription();
await gathered;
const sdp = await fetch('/call', { method: 'POST', body: pc.localDescription.sdp });
await pc.setRemoteDescription({ type: 'answer', sdp: await sdp.text() });
await connected;
const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
const microphone = await navigator.mediaDevices.getUserMedia({ audio });
await sender.replaceTrack(microphone.getAudioTracks()[0]);
</script>"""


class Server:
    """An `antiphon` on ports of its own of the loopback interface."""

    def __init__(self, program: str):
        self.media_port = free_port(socket.SOCK_DGRAM)
        self.grpc = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
        places = ["--http", "127.0.0.1:0", "--grpc", self.grpc, "--media-port", str(self.media_port)]
        more = ["--media-ip", "127.0.0.1", "--announce", "127.0.0.1"]
        self._process = subprocess.Popen([program, "serve", *places, *more], stdout=subprocess.PIPE, text=True)
        for line in self._process.stdout:
            if "http://" in line:
                self.url = "http://" + line.split("http://")[1].split("/")[0].split()[0]
                break
        else:
            raise SystemExit(f"{program} ended before it listened")
        threading.Thread(target=self._process.stdout.read, daemon=True).start()

    def call(self, agent: str, offer: str) -> tuple[str, str]:
        """The answer, and where to hang up. Waits for the agent to be there."""
        patient_until = time.monotonic() + PATIENCE
        while True:
            url = f"{self.url}/whip?agent={agent}"
            request = urllib.request.Request(url, offer.encode(), {"content-type": "application/sdp"})
            try:
                with urllib.request.urlopen(request) as response:
                    return response.read().decode(), self.url + response.headers["location"]
            except urllib.error.HTTPError as error:
                if error.code not in (404, 503) or time.monotonic() > patient_until:
                    raise SystemExit(f"the server refused the call: {error.read().decode()}") from error
                time.sleep(0.1)

    def hang_up(self, place: str):
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(urllib.request.Request(place, method="DELETE")).close()

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self.url}/metrics") as response:
            return response.read().decode()

    def stop(self):
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()


def free_port(kind: int) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Listener:
    """A program that keeps what it hears."""

    def __init__(self, server: Server, name: str, rate: int, denoise: bool = False):
        self._pieces: list[Audio] = []
        self.rate = rate
        waiting = wait_for_calls(name, self._answer, server.grpc, rate=rate, denoise=denoise)
        self._task = asyncio.create_task(waiting)

    @property
    def seconds(self) -> float:
        return sum(len(piece.pcm) for piece in self._pieces) / 2 / self.rate

    @property
    def concealed(self) -> float:
        """How many of all pieces were made up, in part or whole. What comes after the last packet does not count."""
        made_up = [piece.concealed for piece in self._pieces]
        while made_up and made_up[-1]:
            made_up.pop()
        return np.mean(made_up)

    @property
    def dropped(self) -> int:
        """Pieces that did not reach this program because it was slow."""
        return self._pieces[-1].dropped

    def heard(self) -> np.ndarray:
        return np.frombuffer(b"".join(piece.pcm for piece in self._pieces), "<i2")

    async def listen(self, seconds: float):
        """Until so much was heard, or nothing comes any more."""
        heard, since = 0.0, time.monotonic()
        while self.seconds < seconds and time.monotonic() - since < PATIENCE:
            await asyncio.sleep(0.1)
            if self.seconds > heard:
                heard, since = self.seconds, time.monotonic()

    def stop(self):
        self._task.cancel()

    async def _answer(self, call):
        async for event in call:
            if isinstance(event, Audio):
                self._pieces.append(event)


class Speaker:
    """A program that says something once, and hangs up."""

    def __init__(self, server: Server, name: str, pcm: np.ndarray, rate: int):
        self._pcm, self._rate = pcm.tobytes(), rate
        self._task = asyncio.create_task(wait_for_calls(name, self._answer, server.grpc, rate=rate))
        self.done = asyncio.Event()

    def stop(self):
        self._task.cancel()

    async def _answer(self, call):
        said = await call.say(self._pcm, self._rate, interruptible=False)
        feeding = asyncio.create_task(self._follow(call))
        await said
        await asyncio.sleep(0.5)
        feeding.cancel()
        self.done.set()

    @staticmethod
    async def _follow(call):
        async for _ in call:
            pass


class Lecturer:
    """A program that speaks without end until it is interrupted, and again once that turn is over."""

    def __init__(self, server: Server, name: str, pcm: np.ndarray, rate: int):
        self._pcm, self._rate = pcm.tobytes(), rate
        self._task = asyncio.create_task(wait_for_calls(name, self._answer, server.grpc))

    def stop(self):
        self._task.cancel()

    async def _answer(self, call):
        said = await self._begin(call)
        async for event in call:
            if isinstance(event, TurnEnded | FalseInterruption) and said.over:
                said = await self._begin(call)

    async def _begin(self, call):
        return await call.say(itertools.repeat(self._pcm), self._rate)


class Packets(MediaStreamTrack):
    """Sends packets that were made before, 20 ms apart, and then no more."""

    kind = "audio"

    def __init__(self, packets: list[bytes]):
        super().__init__()
        self._packets = packets
        self._sent, self._began = 0, None
        self.done = asyncio.Event()

    async def recv(self):
        self._began = self._began or time.monotonic()
        await asyncio.sleep(self._began + self._sent * 0.02 - time.monotonic())
        if self._sent == len(self._packets):
            self.done.set()
            raise MediaStreamError
        packet = av.Packet(self._packets[self._sent])
        packet.pts, packet.time_base = self._sent * opus.FRAME, fractions.Fraction(1, opus.RATE)
        self._sent += 1
        return packet


class Aiortc:
    """A caller. Keeps the packets it gets, and what aiortc makes of them by itself."""

    def __init__(self, server: Server, link: Link):
        self._server, self._link = server, link
        self._connection = RTCPeerConnection()
        self._frames: list[tuple[int, np.ndarray]] = []
        self._taking = self._place = None
        self._first = None
        # By place, from the first one that came.
        self.packets: dict[int, bytes] = {}

    async def call(self, agent: str, track: MediaStreamTrack):
        transceiver = self._connection.addTransceiver(track, "sendrecv")
        self._tap(transceiver.receiver)
        connected = asyncio.Event()
        self._connection.on("connectionstatechange", lambda: self._note_state(connected))
        await self._connection.setLocalDescription(await self._connection.createOffer())
        offer = self._connection.localDescription.sdp
        answer, self._place = await asyncio.to_thread(self._server.call, agent, offer)
        await self._connection.setRemoteDescription(RTCSessionDescription(self._link.lead(answer), "answer"))
        self._taking = asyncio.create_task(self._take(transceiver.receiver.track))
        await asyncio.wait_for(connected.wait(), PATIENCE)

    async def hang_up(self):
        self._taking.cancel()
        await self._connection.close()
        await asyncio.to_thread(self._server.hang_up, self._place)

    def heard(self) -> np.ndarray:
        """What aiortc decoded, each frame at its time, mixed down."""
        first = self._frames[0][0]
        heard = np.zeros(self._frames[-1][0] - first + opus.FRAME)
        for time_, samples in self._frames:
            heard[time_ - first : time_ - first + len(samples)] = samples
        return heard

    def _note_state(self, connected: asyncio.Event):
        if self._connection.connectionState == "connected":
            connected.set()

    def _tap(self, receiver):
        # There is no other way to the packets; aiortc's own player neither uses FEC nor fills gaps.
        handle = receiver._handle_rtp_packet

        async def note(packet, arrival_time_ms):
            self._first = packet.sequence_number if self._first is None else self._first
            place = (packet.sequence_number - self._first) % 65_536
            self.packets[place] = packet.payload
            await handle(packet, arrival_time_ms=arrival_time_ms)

        receiver._handle_rtp_packet = note

    async def _take(self, track: MediaStreamTrack):
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels)).mean(axis=1)
                self._frames.append((frame.pts, samples / 32_768))


class Browser:
    """A Chromium whose microphone is a file. It calls as soon as it is there."""

    def __init__(self, program: str, server: Server, link: Link, agent: str, microphone: str, fec: bool = True):
        browser, browser._place = self, None

        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.reply("text/html", PAGE)

            def do_POST(self):
                offer = self.rfile.read(int(self.headers["content-length"])).decode()
                answer, browser._place = server.call(agent, offer)
                answer = link.lead(answer)
                if not fec:
                    # Who receives says whether it is wanted (RFC 7587 §6.1).
                    answer = answer.replace("useinbandfec=1", "useinbandfec=0")
                self.reply("application/sdp", answer)

            def reply(self, kind: str, text: str):
                self.send_response(200)
                self.send_header("content-type", kind)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self._server = server
        self._pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=self._pages.serve_forever, daemon=True).start()
        self._profile = tempfile.mkdtemp()
        flags = [*CHROMIUM_FLAGS, f"--user-data-dir={self._profile}"]
        flags.append(f"--use-file-for-fake-audio-capture={microphone}%noloop")
        page = f"http://127.0.0.1:{self._pages.server_port}/"
        self._process = subprocess.Popen([program, *flags, page], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        if self._place:
            self._server.hang_up(self._place)
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._pages.shutdown()
        shutil.rmtree(self._profile, ignore_errors=True)
