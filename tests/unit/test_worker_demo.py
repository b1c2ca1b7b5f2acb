"""The demo worker: real environments, real learning, events as workers in use tell them."""

from __future__ import annotations

import io
import itertools
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from live_telemetry_widget.errors import WorkerError
from live_telemetry_widget.grids import grid_from
from live_telemetry_widget.worker import demo
from tests.conftest import demo_command

if TYPE_CHECKING:
    import argparse
    import pathlib
    from collections.abc import Callable


def events_of(*arguments: str) -> list[dict[str, Any]]:
    out = io.StringIO()
    demo.train(_options(*arguments), out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def _options(*arguments: str) -> argparse.Namespace:
    return demo._parser().parse_args(arguments)


def of_type(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


def check_sound(events: list[dict[str, Any]]) -> None:
    steps = of_type(events, "step")
    for episode in of_type(events, "episode"):
        own = [step for step in steps if step["episode"] == episode["episode"]]
        assert [step["step_index"] for step in own] == list(range(episode["steps"]))
        assert sum(step["reward"] for step in own) == episode["reward"]
        assert [step["terminated"] or step["truncated"] for step in own] == [False] * (len(own) - 1) + [True]
        for earlier, later in itertools.pairwise(own):
            assert earlier["next_state"] == later["state"]
            assert earlier["next_observation"] == later["observation"]


def test_events_have_the_shape_of_a_real_workers(sample_events: list[dict[str, Any]]) -> None:
    events = events_of("--episodes", "5", "--seed", "3", "--run-id", "r")
    assert [events[0]["type"], events[-1]["type"]] == ["run_started", "run_completed"]
    for kind in ("step", "episode"):
        real, ours = of_type(sample_events, kind)[0], of_type(events, kind)[0]
        assert set(real) <= set(ours)
        assert {name: type(ours[name]) for name in real} == {name: type(real[name]) for name in real}
    real, ours = of_type(sample_events, "step")[0], of_type(events, "step")[0]
    assert set(ours["observation"]) == set(real["observation"])
    fixed = ("goal", "grid_size", "holes")
    assert [ours["observation"][name] for name in fixed] == [real["observation"][name] for name in fixed]
    assert ours["render_payload"]["grid"] == ["SFFF", "FHFH", "FFFH", "HFFG"]
    metadata = of_type(events, "episode")[1]["metadata"]
    assert set(metadata) == set(of_type(sample_events, "episode")[0]["metadata"])
    assert (metadata["seed"], metadata["episode_index"], metadata["episode"], metadata["run_id"]) == (3, 1, 4, "r")
    assert [event["episode"] for event in of_type(events, "episode")] == [3, 4, 5, 6, 7]
    assert {(step["episode"], step["episode_seed"]) for step in of_type(events, "step")} == {
        (n, n) for n in range(3, 8)
    }


@pytest.mark.parametrize("name", ["FrozenLake", "FrozenLake-v1", "CliffWalking", "Taxi"])
def test_every_game_is_sound_and_drawn(name: str) -> None:
    events = events_of("--env", name, "--episodes", "4", "--max-steps", "30")
    check_sound(events)
    assert len(of_type(events, "episode")) == 4
    for step in of_type(events, "step"):
        game = step["render_payload"]["game_id"]
        after, before = (
            grid_from(json.dumps(payload), json.dumps(seen), game=game, episode=0, step_index=0)
            for payload, seen in ((step["render_payload"], None), (None, step["observation"]))
        )
        assert after is not None
        assert before is not None
        assert after["game"] == before["game"] == name.split("-", maxsplit=1)[0]
        assert after["agent"] == step["render_payload"]["agent_position"]
        assert after["walls"] == before["walls"]


def test_a_seed_gives_the_same_run_again() -> None:
    def told(seed: str) -> list[dict[str, Any]]:
        events = events_of("--episodes", "20", "--seed", seed)
        return [{name: value for name, value in event.items() if name != "ts_unix_ns"} for event in events]

    assert told("5") == told("5")
    assert told("5") != told("6")


@pytest.mark.parametrize(
    ("arguments", "better_by"),
    [
        (("--no-slippery", "--episodes", "300"), 0.4),
        (("--env", "CliffWalking", "--episodes", "150", "--max-steps", "200"), 50),
        (("--env", "Taxi", "--episodes", "400", "--max-steps", "200"), 100),
    ],
    ids=["FrozenLake", "CliffWalking", "Taxi"],
)
def test_it_learns(arguments: tuple[str, ...], better_by: float) -> None:
    totals = [event["reward"] for event in of_type(events_of("--seed", "1", *arguments), "episode")]
    part = len(totals) // 5
    first, last = sum(totals[:part]) / part, sum(totals[-part:]) / part
    assert last > first + better_by


def test_exploration_falls_and_values_move() -> None:
    steps = of_type(events_of("--no-slippery", "--episodes", "80", "--seed", "1"), "step")
    epsilons = [step["epsilon"] for step in steps]
    assert epsilons == sorted(epsilons, reverse=True)
    assert any(step["q_after"] != step["q_before"] for step in steps)
    for step in steps:
        if step["reward"] == 1.0:
            assert step["q_after"] == pytest.approx(step["q_before"] + 0.2 * (1.0 - step["q_before"]))


def test_an_artifact_is_told_of_when_it_is_there(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "policy.json"
    events = events_of("--episodes", "2", "--policy-path", str(path))
    assert [event["path"] for event in of_type(events, "artifact")] == [str(path)]
    table = json.loads(path.read_text(encoding="utf-8"))["q_table"]
    assert (len(table), len(table[0])) == (16, 4)
    assert not of_type(events_of("--episodes", "1"), "artifact")


def test_a_game_it_cannot_play_is_a_failed_run_with_a_reason() -> None:
    done = subprocess.run(demo_command("--env", "Pong"), capture_output=True, check=False)
    event = json.loads(done.stdout)
    assert done.returncode == 1
    assert (event["type"], event["status"]) == ("run_completed", "failed")
    assert "'Pong'; the demo worker plays FrozenLake" in event["error"]
    assert event["error"] in done.stderr.decode()


def test_an_error_on_the_way_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        msg = "no such state"
        raise LookupError(msg)

    monkeypatch.setattr(demo.QLearning, "learn", fail)
    out = io.StringIO()
    with pytest.raises(LookupError):
        demo.train(_options("--episodes", "2"), out)
    last = json.loads(out.getvalue().splitlines()[-1])
    assert (last["status"], last["error"]) == ("failed", "LookupError: no such state")


def test_without_gymnasium_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(WorkerError, match=r"pip install 'live_telemetry_widget\[gymnasium\]'"):
        demo.Game("FrozenLake-v1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_the_run_and_every_line_is_whole(
    processes: Callable[..., subprocess.Popen[bytes]], number: signal.Signals
) -> None:
    worker = processes(demo_command("--episodes", "1000000"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stderr is not None
    first = worker.stdout.readline()
    # Nobody reads on: sooner or later it stands in the middle of a write.
    worker.send_signal(number)
    events = [json.loads(line) for line in (first, *worker.stdout.readlines())]
    assert events[-1]["status"] == "cancelled"
    assert (worker.wait(10), worker.stderr.read()) == (0, b"")


def test_a_reader_that_goes_away_ends_it_quietly(processes: Callable[..., subprocess.Popen[bytes]]) -> None:
    worker = processes(demo_command("--episodes", "1000000"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stderr is not None
    worker.stdout.readline()
    worker.stdout.close()
    assert (worker.wait(20), worker.stderr.read()) == (1, b"")


def test_the_run_id_comes_from_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTW_RUN_ID", "from-the-proxy")
    assert {event["run_id"] for event in events_of("--episodes", "1")} == {"from-the-proxy"}
    assert events_of("--episodes", "1", "--run-id", "mine")[0]["run_id"] == "mine"
