"""Callbacks: every step once, on a thread or a loop, and none that harms another."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import live_telemetry_widget as ltw
from tests.conftest import demo_command, proxy_command, wait_for

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable


def feed(hub: ltw.TelemetryAsyncHub, count: int, run_id: str = "r", first: int = 0) -> None:
    for i in range(first, first + count):
        hub.submit_step({"run_id": run_id, "episode": 0, "step_index": i, "reward": 1.0, "action": i % 4})


def test_each_step_episode_and_end_is_delivered_once_from_a_real_daemon(
    daemon: ltw.Server, processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    with ltw.connect(daemon.address) as client:
        bridge = client.bridge()
        steps: list[tuple[int, int, Any]] = []
        episodes: list[int] = []
        ends: list[tuple[str, str]] = []
        done = threading.Event()
        bridge.step_received.connect(lambda _, s: steps.append((s["episode"], s["step_index"], s["action"])))
        bridge.episode_received.connect(lambda _, e: episodes.append(e["episode"]))
        bridge.run_completed.connect(lambda run_id, state, _: (ends.append((run_id, state)), done.set()))
        run = client.run("lake")
        processes(proxy_command(daemon.address, *demo_command("--episodes", "20"), run_id="lake"))
        assert done.wait(60)
        wait_for(lambda: len(steps) == len(run.steps), "the last steps to be delivered")
        wait_for(lambda: len(episodes) == 20, "the last episodes to be delivered")
        assert steps == list(run.steps[["episode", "step_index", "action"]].itertuples(index=False, name=None))
        assert episodes == list(range(20))
        assert ends == [("lake", "completed")]


def test_a_callback_that_raises_is_counted_and_called_again() -> None:
    with ltw.TelemetryAsyncHub() as hub, ltw.TelemetryBridge(hub) as bridge:
        good: list[int] = []

        def bad(_: str, step: dict[str, Any]) -> None:
            raise ValueError(step["step_index"])

        bridge.step_received.connect(bad)
        bridge.step_received.connect(lambda _, step: good.append(step["step_index"]))
        hub.subscribe_run("r")
        feed(hub, 50)
        wait_for(lambda: len(good) == 50 and bridge.step_received.errors == 50, "all to be delivered")
        assert good == list(range(50))


def test_a_callback_that_does_not_keep_up_loses_its_own_oldest_and_is_told() -> None:
    with ltw.TelemetryAsyncHub() as hub, ltw.TelemetryBridge(hub, capacity=2) as bridge:
        go, slow, fast, lost = threading.Event(), [], [], []

        def held_up(_: str, step: dict[str, Any]) -> None:
            go.wait(30)
            slow.append(step["step_index"])

        bridge.step_received.connect(held_up)
        bridge.step_received.connect(lambda _, step: fast.append(step["step_index"]))
        bridge.queue_overflow.connect(lambda signal, dropped: lost.append((signal, dropped)))
        run = hub.subscribe_run("r")
        for part in range(8):  # each a batch of its own
            feed(hub, 5, first=5 * part)
            wait_for(lambda part=part: len(fast) == 5 * (part + 1), "the batch to reach the other callback")  # type: ignore[misc]
        go.set()
        wait_for(lambda: slow and slow[-1] == 39, "the newest to be delivered")
        wait_for(lambda: lost, "the overflow to be told")
        assert fast == list(range(40))
        assert slow == sorted(slow)
        assert sum(count for _, count in lost) * 5 == 40 - len(slow)
        assert lost[0][0] == "step_received"
        assert run.frames.step_count == 40


async def test_callbacks_can_be_called_on_a_loop() -> None:
    threads: set[int] = set()
    got: list[int] = []
    with ltw.TelemetryAsyncHub() as hub, ltw.TelemetryBridge(hub, loop=asyncio.get_running_loop()) as bridge:

        def on_step(_: str, step: dict[str, Any]) -> None:
            threads.add(threading.get_ident())
            got.append(step["step_index"])

        bridge.step_received.connect(on_step)
        hub.subscribe_run("r")
        feed(hub, 500)
        async with asyncio.timeout(20):
            while len(got) < 500:  # noqa: ASYNC110 - the loop is to be free, as a kernel's is
                await asyncio.sleep(0.01)
    assert got == list(range(500))
    assert threads == {threading.get_ident()}


def test_a_bridge_ends_with_its_hub_and_a_closed_one_says_so() -> None:
    with ltw.TelemetryAsyncHub() as hub:
        bridge = ltw.TelemetryBridge(hub)
        disconnect = bridge.step_received.connect(print)
        disconnect()
        disconnect()
        bridge.step_received.connect(print)
    wait_for(
        lambda: not [t for t in threading.enumerate() if t.name.startswith("live-telemetry")], "the threads to end"
    )
    bridge.close()
    with pytest.raises(ltw.ClosedError, match="make another"):
        bridge.step_received.connect(print)


def test_unsubscribing_frees_everything_of_a_run_and_leaves_the_others() -> None:
    with ltw.TelemetryAsyncHub() as hub:
        gone, kept = hub.subscribe_run("gone"), hub.subscribe_run("kept")
        feed(hub, 100, "gone")
        feed(hub, 100, "kept")
        for frames in (gone.frames, kept.frames):
            wait_for(lambda frames=frames: frames.step_count == 100, "the steps")  # type: ignore[misc]
        del frames
        refs = [weakref.ref(thing) for thing in (gone, gone.frames, hub._following["gone"])]
        hub.unsubscribe_run("gone")
        del gone
        wait_for(lambda: gc.collect() is not None and not any(ref() for ref in refs), "the memory to be free")
        feed(hub, 10, "kept", first=100)
        wait_for(lambda: kept.frames.step_count == 110, "the other run to go on")


def test_a_run_that_nobody_holds_is_not_followed_any_more(daemon: ltw.Server) -> None:
    with ltw.connect(daemon.address) as client:
        run = client.run("r")
        assert client.run("r") is run
        ref = weakref.ref(run._feed)
        del run
        wait_for(lambda: gc.collect() is not None and ref() is None, "the run to be let go")
        assert not client.hub._following
