"""Connections that break, and connections that only seem to stand."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget.client import Backoff
from tests.conftest import wait_for
from tests.support.cutter import Cutter

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def cutter(daemon: ltw.Server) -> Iterator[Cutter]:
    """Return a cutter in front of a daemon."""
    with Cutter(daemon.address) as held:
        yield held


def test_cutting_resets_or_ends_connections_and_lets_new_ones_in() -> None:
    with socket.create_server(("127.0.0.1", 0)) as far, Cutter("{}:{}".format(*far.getsockname())) as held:
        host, _, port = held.address.rpartition(":")
        for reset in (True, False):
            with socket.create_connection((host, int(port)), timeout=10) as near:
                other, _ = far.accept()
                with other:
                    near.sendall(b"there")
                    assert other.recv(100) == b"there"
                    other.sendall(b"and back")
                    assert near.recv(100) == b"and back"
                    assert held.cut(reset=reset) == 1
                    if reset:
                        with pytest.raises(ConnectionResetError):
                            near.recv(1)
                    else:
                        assert near.recv(1) == b""
        assert (held.accepted, held.cuts) == (2, 2)
        wait_for(lambda: held.connections == 0, "both to be gone")


def test_a_blackhole_takes_everything_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as far, Cutter("{}:{}".format(*far.getsockname())) as held:
        host, _, port = held.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as near:
            other, _ = far.accept()
            held.blackhole()
            near.sendall(b"lost?")
            other.close()  # this FIN must not come through
            near.settimeout(0.3)
            with pytest.raises(TimeoutError):
                near.recv(1)
            held.restore()
            near.settimeout(10)
            assert near.recv(1) == b""


def test_the_hub_comes_back_after_each_cut(cutter: Cutter) -> None:
    with ltw.TelemetryAsyncHub(cutter.address, backoff=Backoff(first=0.01, most=0.05)) as hub:
        feed = hub.subscribe_run("r")
        for reset in (True, False, True):
            wait_for(lambda: feed.link.state == "live", "the link to be up")
            before = cutter.accepted
            cutter.cut(reset=reset)
            wait_for(lambda before=before: cutter.accepted > before, "a new connection")  # type: ignore[misc]


def test_a_half_open_connection_is_noticed_within_20_seconds(cutter: Cutter) -> None:
    """Keepalive as it is in life, so this takes some 15 s."""
    with ltw.TelemetryAsyncHub(cutter.address) as hub:
        feed = hub.subscribe_run("r")
        wait_for(lambda: feed.link.state == "live", "the link to be up")
        cutter.blackhole()
        begin = time.monotonic()
        wait_for(lambda: feed.link.state == "reconnecting", "the link to be given up", 20)
        assert time.monotonic() - begin < 20
        cutter.restore()
        wait_for(lambda: feed.link.state == "live", "the link to be up again")
