"""Streams of single messages, read by a thread: all of them in order, within bounds, and nothing left behind."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import grpc
import psutil
import pytest

from live_telemetry_widget import _messages
from live_telemetry_widget.client import CHANNEL_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = 60.0
METHOD = "/a.Service/Stream"


class Source:
    """Streams what it is told to, and counts what gRPC has taken of it."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.taken = 0
        self.code: grpc.StatusCode | None = None
        self.stays = threading.Event()
        self.address = ""

    def stream(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Answer the one call there is."""
        assert request == b"ask"
        context.add_callback(self.stays.set)  # before anything is sent: one that comes after the end is never called
        for message in self.messages:
            yield message
            self.taken += 1
        if self.code is not None:
            context.abort(self.code, "as told")
        self.stays.wait(LIMIT)


@pytest.fixture
def source() -> Iterator[Source]:
    """Serve a source on a free port."""
    held = Source()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    handler = grpc.unary_stream_rpc_method_handler(held.stream)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("a.Service", {"Stream": handler})])
    held.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield held
    held.stays.set()
    server.stop(None).wait(LIMIT)


def connections(source: Source) -> int:
    """Return how many connections this process has to the source."""
    port = int(source.address.rsplit(":", 1)[1])
    found = psutil.Process().net_connections("tcp")
    return sum(bool(c.raddr) and c.raddr.port == port and c.status == psutil.CONN_ESTABLISHED for c in found)


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for is another's
        await asyncio.sleep(0.01)


def read(source: Source) -> contextlib.aclosing[Any]:
    return contextlib.aclosing(_messages.read(source.address, CHANNEL_OPTIONS, METHOD, b"ask"))


async def test_all_come_once_and_in_order_and_nothing_stays(source: Source) -> None:
    source.messages = [b"%d" % number for number in range(10_000)]
    found: list[bytes] = []
    async with asyncio.timeout(LIMIT):
        async with read(source) as lists:
            async for messages in lists:
                assert 0 < len(messages) <= _messages._MOST
                found += messages
                if len(found) == len(source.messages):
                    assert connections(source) == 1
                    break
        assert found == source.messages
        await until(lambda: connections(source) == 0)
        await until(source.stays.is_set)  # the daemon has heard that nobody reads
    assert not [thread for thread in threading.enumerate() if thread.name == "live-telemetry-messages"]


async def test_a_reader_that_does_not_take_holds_the_daemon_back(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_messages, "_MOST_BYTES", 1_000_000)
    source.messages = [bytes(100_000)] * 3_000
    found = 0
    async with asyncio.timeout(LIMIT), read(source) as lists:
        found += len(await anext(lists))
        # HTTP/2 has its own room, up to some 16 MB; what there is beyond it is not sent, however long nobody looks.
        await until(lambda: source.taken >= 10)
        taken = -1
        while taken != source.taken:
            taken = source.taken
            await asyncio.sleep(0.3)
        assert taken < 1_000
        async for messages in lists:
            found += len(messages)
            if found > 1_000:  # it goes on
                break
    assert found > 1_000


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
async def test_an_error_comes_behind_what_came_before_it(source: Source, code: grpc.StatusCode) -> None:
    source.messages, source.code = [b"1", b"2"], code
    found: list[bytes] = []

    async def to_the_end() -> None:
        async with asyncio.timeout(LIMIT), read(source) as lists:
            async for messages in lists:
                found.extend(messages)

    with pytest.raises(grpc.RpcError) as caught:
        await to_the_end()
    assert found == [b"1", b"2"]
    assert caught.value.code() == code
    assert "as told" in caught.value.details()


async def test_a_reader_that_leaves_while_nothing_comes_is_not_kept(source: Source) -> None:
    async def wait() -> None:
        async with read(source) as lists:
            await anext(lists)

    task = asyncio.create_task(wait())
    async with asyncio.timeout(LIMIT):
        await until(lambda: connections(source) == 1)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await until(lambda: connections(source) == 0)
