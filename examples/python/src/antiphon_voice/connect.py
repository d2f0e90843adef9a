"""The two ways of meeting a server."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import grpc

from . import voice_pb2 as pb
from . import voice_pb2_grpc as rpc
from .call import GRACE, Call

log = logging.getLogger("antiphon_voice")

Answer = Callable[[Call], Awaitable[None]]

# Small messages must not wait for each other, and a dead server is noticed.
OPTIONS = [("grpc.keepalive_time_ms", 20_000), ("grpc.http2.max_pings_without_data", 0)]
RETRY = 1.0


async def wait_for_calls(
    name: str,
    answer: Answer,
    server: str = "127.0.0.1:50051",
    token: str | None = None,
    certificates: bytes | None = None,
    tls: bool = False,
    rate: int = 16_000,
    batch_ms: int = 20,
    denoise: bool = False,
):
    """Connects to a server and answers the calls for `name`, each in a task of its own; connects again when it must.

    With `tls`, or with `certificates` of authorities (PEM) to trust, the connection is encrypted.
    """
    metadata = [("authorization", f"Bearer {token}")] if token else []
    hearing = pb.Hearing(rate=rate, batch_ms=batch_ms, denoise=denoise)
    calls: set[asyncio.Task] = set()
    if tls or certificates:
        channel = grpc.aio.secure_channel(server, grpc.ssl_channel_credentials(certificates), OPTIONS)
    else:
        channel = grpc.aio.insecure_channel(server, OPTIONS)
    async with channel:
        stub = rpc.CallsStub(channel)
        while True:
            try:
                offers = stub.Wait(pb.Register(name=name, hearing=hearing), metadata=metadata)
                async for offer in offers:
                    task = asyncio.create_task(_take_up(stub, metadata, offer.token, answer))
                    calls.add(task)
                    task.add_done_callback(calls.discard)
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                log.info("the server is not there: %s", error.details())
            await asyncio.sleep(RETRY)


async def serve(answer: Answer, address: str = "127.0.0.1:50052"):
    """Listens for a server that dials (`--agent-url NAME=http://ADDRESS`) and answers its calls."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    rpc.add_OrchestratorServicer_to_server(_Dialled(answer), server)
    if server.add_insecure_port(address) == 0:
        raise OSError(f"cannot listen on {address}")
    await server.start()
    try:
        await server.wait_for_termination()
    finally:
        await server.stop(None)


class _NoCall(ConnectionError):
    """There is no such call, or no longer: it is of no use to try again."""


def _broken(code: grpc.StatusCode, details: str | None) -> ConnectionError:
    kind = _NoCall if code == grpc.StatusCode.NOT_FOUND else ConnectionError
    return kind(details)


class _Outgoing:
    """A stream that this program opened."""

    def __init__(self, stream):
        self._stream = stream
        self._reading = asyncio.Lock()

    async def read(self):
        try:
            # The last read of a program that went away may still wait when it is closed.
            async with self._reading:
                message = await self._stream.read()
        except grpc.aio.AioRpcError as error:
            raise _broken(error.code(), error.details()) from error
        if message is grpc.aio.EOF:
            code = await self._stream.code()
            if code != grpc.StatusCode.OK:
                raise _broken(code, await self._stream.details())
            return None
        return message

    async def write(self, message):
        try:
            await self._stream.write(message)
        except grpc.aio.AioRpcError as error:
            raise _broken(error.code(), error.details()) from error
        except asyncio.InvalidStateError as error:
            raise ConnectionError("the stream broke") from error

    async def close(self):
        """Hangs up. Cancelling alone would look like a stream that broke."""
        try:
            async with asyncio.timeout(GRACE):
                await self._stream.done_writing()
                while await self.read() is not None:
                    pass
        except (ConnectionError, TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass
        self._stream.cancel()


async def _take_up(stub, metadata, token: str, answer: Answer):
    current: list[_Outgoing] = []

    async def join():
        while True:
            stream = _Outgoing(stub.Converse(metadata=metadata))
            try:
                await stream.write(pb.FromAgent(join=pb.Join(token=token)))
                start = await stream.read()
                if start is not None:
                    current[:] = [stream]
                    return stream, start
            except _NoCall as error:
                log.warning("a call cannot be taken up: %s", error)
                return None
            except ConnectionError as error:
                log.info("a call cannot be taken up: %s", error)
            await asyncio.sleep(0.2)

    async def rejoin():
        joined = await join()
        return joined and _Replayed(*joined)

    try:
        joined = await asyncio.wait_for(join(), GRACE)
    except TimeoutError:
        return
    if joined is None:
        return
    call = Call(*joined, rejoin)
    try:
        await _answer(answer, call)
    finally:
        await current[0].close()


class _Replayed:
    """A stream whose first message was read already."""

    def __init__(self, stream, first):
        self._stream, self._first = stream, first

    async def read(self):
        first, self._first = self._first, None
        return first or await self._stream.read()

    async def write(self, message):
        await self._stream.write(message)


class _Incoming:
    """A stream that the server opened."""

    def __init__(self, context):
        self._context = context
        self.over = asyncio.Event()

    async def read(self):
        reading = asyncio.ensure_future(self._context.read())
        over = asyncio.ensure_future(self.over.wait())
        done, _ = await asyncio.wait({reading, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if reading not in done:
            reading.cancel()
            raise ConnectionError("the stream broke")
        try:
            message = reading.result()
        except (grpc.aio.BaseError, asyncio.CancelledError) as error:
            raise ConnectionError("the stream broke") from error
        return None if message is grpc.aio.EOF else message

    async def write(self, message):
        if self.over.is_set():
            raise ConnectionError("the stream broke")
        try:
            await self._context.write(message)
        except (grpc.aio.BaseError, asyncio.InvalidStateError) as error:
            raise ConnectionError("the stream broke") from error


class _Dialled(rpc.OrchestratorServicer):
    def __init__(self, answer: Answer):
        self._answer = answer
        # Calls under way: their task, and where they wait for another stream.
        self._calls: dict[str, tuple[asyncio.Task, asyncio.Queue]] = {}

    async def Converse(self, _, context):
        stream = _Incoming(context)
        try:
            start = await stream.read()
        except ConnectionError:
            return
        if start is None or start.WhichOneof("what") != "start":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message is `Start`")
        token = start.start.token
        try:
            known = self._calls.get(token)
            if known:
                task, streams = known
                streams.put_nowait(_Replayed(stream, start))
            else:
                streams = asyncio.Queue()
                call = Call(stream, start, streams.get)
                task = asyncio.create_task(_answer(self._answer, call))
                self._calls[token] = task, streams
                task.add_done_callback(lambda _: self._calls.pop(token, None))
            # Returning is hanging up. The call outlives this stream if it breaks.
            await asyncio.shield(task)
        finally:
            stream.over.set()


async def _answer(answer: Answer, call: Call):
    try:
        await answer(call)
    except Exception:
        log.exception("a call ended by an error in the program")
    finally:
        call._finish()
