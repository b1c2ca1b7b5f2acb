"""The frames: each step once, episodes joined to their steps, deltas by cursor."""

from __future__ import annotations

import threading
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from live_telemetry_widget import _columns, normalize
from live_telemetry_widget._episode import Episode
from live_telemetry_widget._summaries import Summaries
from live_telemetry_widget.frames import Cursor, RunFrames


def steps(numbers: range | list[int], episode: int = 0, **more: Any) -> pa.RecordBatch:
    events = [{"episode": episode, "step_index": n, "reward": 1.0, "agent_id": "a", **more} for n in numbers]
    return normalize.steps_from_events(events).batch


def record(episode: int, **more: Any) -> pa.RecordBatch:
    return normalize.episodes_from_events(
        [{"episode": episode, "agent_id": "a", "reward": 5.0, "steps": 5, **more}]
    ).batch


def held(frames: RunFrames) -> list[tuple[int, int]]:
    return list(frames.steps()[["episode", "step_index"]].itertuples(index=False, name=None))


def test_overlapping_batches_leave_each_step_once_in_order() -> None:
    frames = RunFrames("r")
    assert frames.append_steps(steps(range(5))).num_rows == 5
    assert frames.append_steps(steps(range(3, 8))).num_rows == 3
    assert frames.append_steps(steps([7, 7, 2])).num_rows == 0
    assert held(frames) == [(0, n) for n in range(8)]
    assert frames.duplicates == 5


def test_a_copy_within_one_batch_is_merged_too() -> None:
    frames = RunFrames("r")
    assert frames.append_steps(steps([0, 1, 1, 0, 2])).num_rows == 3
    assert held(frames) == [(0, 0), (0, 1), (0, 2)]
    assert frames.episodes()["total_reward"].tolist() == [3.0]


def test_late_steps_are_put_where_they_belong() -> None:
    frames = RunFrames("r")
    for part in (range(6, 9), range(3), range(3, 6)):
        frames.append_steps(steps(part))
    assert held(frames) == [(0, n) for n in range(9)]
    assert frames.episode_table(frames.find(0)).column("step_index").to_pylist() == list(range(9))


def test_a_richer_copy_fills_what_the_held_one_lacks_field_by_field() -> None:
    frames = RunFrames("r")
    frames.append_steps(steps(range(4), render_payload={"mode": "grid"}))
    frames.append_steps(steps([1, 2], epsilon=0.5, episode_seed=9, policy_label="p", render_payload={"mode": "other"}))
    frame = frames.steps()
    assert frame["epsilon"].fillna(-1).tolist() == [-1, 0.5, 0.5, -1]
    assert frame["episode_seed"].isna().tolist() == [True, False, False, True]
    assert frame["policy_label"].astype(object).fillna("").tolist() == ["", "p", "p", ""]
    assert set(frame["render_payload"]) == {'{"mode":"grid"}'}
    assert len(frame) == 4


def test_batches_with_other_further_columns_and_types_make_one_frame() -> None:
    frames = RunFrames("r")
    frames.append_steps(steps([0], x=1))
    frames.append_steps(steps([1], x=0.5, y="late"))
    frames.append_steps(steps([2], x={"deep": 1}))
    assert frames.steps_table().column("x").to_pylist() == ["1", "0.5", '{"deep":1}'] or frames.steps_table().column(
        "x"
    ).to_pylist() == ["1.0", "0.5", '{"deep":1}']
    assert frames.steps_table().column("y").to_pylist() == [None, "late", None]


def test_eight_agents_of_four_workers_interleaved_come_out_right() -> None:
    events = [
        {"episode": e, "step_index": s, "reward": 1.0, "agent_id": f"a{a}", "worker_id": f"w{w}"}
        for e in range(3)
        for s in range(10)
        for a in range(8)
        for w in range(4)
    ]
    frames = RunFrames("r")
    for at in range(0, len(events), 77):
        frames.append_steps(normalize.steps_from_events(events[at : at + 77]).batch)
    assert frames.step_count == len(events)
    grouped = frames.steps().groupby(["worker_id", "agent_id", "episode"], observed=True)["step_index"].apply(list)
    assert len(grouped) == 96
    assert all(numbers == list(range(10)) for numbers in grouped)
    assert not frames.problems()


def test_an_episode_is_derived_from_its_steps_until_its_record_comes() -> None:
    frames = RunFrames("r")
    frames.append_steps(steps(range(5)))
    row = frames.episodes().iloc[0]
    assert (row["source"], row["total_reward"], row["steps"], row["outcome"]) == ("steps", 5.0, 5, "Running")
    frames.append_episodes(record(0, terminated=True, success=True))
    row = frames.episodes().iloc[0]
    assert (row["source"], row["total_reward"], row["outcome"], row["success"]) == ("record", 5.0, "Success", True)
    assert frames.episode_count == 1


@pytest.mark.parametrize(
    ("total", "flags", "outcome"),
    [
        (1.0, {"terminated": True}, "Success"),
        (-1.0, {"terminated": True}, "Failed"),
        (0.0, {"terminated": True}, "Completed"),
        (0.0, {"truncated": True}, "Timeout"),
        (2.0, {}, "Success"),
        (-13.0, {"terminated": True, "success": True}, "Success"),
        (0.0, {"terminated": True, "success": False}, "Completed"),
    ],
)
def test_outcomes_are_those_of_the_desktop_view(total: float, flags: dict[str, bool], outcome: str) -> None:
    frames = RunFrames("r")
    frames.append_episodes(record(0, reward=total, **flags))
    assert frames.episodes()["outcome"].tolist() == [outcome]


@pytest.mark.parametrize(
    ("total", "told", "outcome"),
    [
        (0.0, {"outcome": "Failed", "terminated": True}, "Failed"),
        (3.0, {"outcome": "Failed", "success": False, "terminated": True}, "Failed"),
        (0.0, {"outcome": "Success", "truncated": True}, "Success"),
        (0.0, {"is_success": False, "terminated": True}, "Failed"),
        (-50.0, {"is_success": True, "truncated": True}, "Success"),
        (1.0, {"is_success": 0.5, "terminated": True}, "Success"),
        (0.0, {"outcome": "draw", "terminated": True}, "Completed"),
    ],
)
def test_an_outcome_that_a_worker_says_stands(total: float, told: dict[str, Any], outcome: str) -> None:
    frames = RunFrames("r")
    frames.append_episodes(record(0, reward=total, metadata={"loss": 1.5, **told}))
    frames.append_episodes(record(1, reward=total, **told))
    frame = frames.episodes()
    assert frame["outcome"].tolist() == [outcome, outcome]
    # What is no outcome's word has a column of its own; the fields that it was read from stay.
    assert ("extra_outcome" in frame) == (told.get("outcome") == "draw")
    assert {"success", "is_success"} & told.keys() <= set(frame.columns)


def test_an_outcome_beyond_the_words_shows_also_those_that_came_before() -> None:
    frames = RunFrames("r")
    frames.append_episodes(record(0, terminated=True, outcome="Failed"))
    assert "extra_outcome" not in frames.episodes()
    frames.append_episodes(record(1, terminated=True, outcome="draw"))
    frame = frames.episodes()
    assert frame["extra_outcome"].tolist() == ["Failed", "draw"]
    assert frame["outcome"].tolist() == ["Failed", "Success"]


def test_an_outcome_beyond_the_words_shows_those_of_all_episodes_however_many() -> None:
    frames = RunFrames("r")
    events = [{"episode": n, "agent_id": "a", "reward": 5.0, "steps": 5, "outcome": "Failed"} for n in range(1_500)]
    frames.append_episodes(normalize.episodes_from_events(events).batch)
    assert "extra_outcome" not in frames.episodes()  # and it is kept
    frames.append_episodes(record(1_500, terminated=True, outcome="draw"))
    assert frames.episodes()["extra_outcome"].tolist() == ["Failed"] * 1_500 + ["draw"]


@pytest.mark.parametrize("told", [[1, 2], [0.5], ["Failed", 1], {"by": "points"}, 3, 0.5, True])
def test_an_outcome_may_be_of_any_type(told: object) -> None:
    frames = RunFrames("r")
    frames.append_episodes(record(0, terminated=True, outcome=told))
    frame = frames.episodes()
    assert frame["outcome"].tolist() == ["Success"]
    assert frame["extra_outcome"].notna().tolist() == [True]


@pytest.mark.parametrize(
    ("told", "outcomes"),
    [
        ([{"is_success": True}, {"is_success": False}, {"is_success": 1.0}], ["Success", "Failed", "Success"]),
        ([{"is_success": False}, {"is_success": 1}, {"is_success": "true"}], ["Failed", "Success", "Completed"]),
        ([{"is_success": 1.0}, {"is_success": 0.0}, {"is_success": 0.5}], ["Success", "Failed", "Completed"]),
        ([{"is_success": 0}, {"is_success": [True]}], ["Failed", "Completed"]),
        ([{"success": True}, {"success": 1.0}, {"success": "true"}], ["Success", "Completed", "Completed"]),
        ([{"outcome": "Failed"}, {"outcome": 3}, {"outcome": {"a": 1}}], ["Failed", "Completed", "Completed"]),
        ([{"outcome": "Timeout"}, {"outcome": [1, 2]}, {"outcome": None}], ["Timeout", "Completed", "Completed"]),
        ([{"outcome": '"Failed"'}], ["Completed"]),
    ],
)
@pytest.mark.parametrize("together", [False, True])
def test_one_odd_record_changes_no_other_outcome(
    told: list[dict[str, Any]], outcomes: list[str], *, together: bool
) -> None:
    frames = RunFrames("r")
    events = [{"episode": n, "reward": 0.0, "steps": 5, "terminated": True, **said} for n, said in enumerate(told)]
    for part in [events] if together else [[event] for event in events]:
        frames.append_episodes(normalize.episodes_from_events(part).batch)
    assert frames.episodes()["outcome"].tolist() == outcomes


@pytest.mark.parametrize("word", ["Running", "Unfinished"])
def test_an_episode_that_has_a_record_has_ended_whatever_it_says(word: str) -> None:
    frames = RunFrames("r")
    frames.append_episodes(record(0, reward=0.0, outcome=word))
    frame = frames.episodes()
    assert frame["outcome"].tolist() == ["Completed"]
    assert frame["extra_outcome"].tolist() == [word]


def test_an_outcome_may_be_a_label() -> None:
    for word, further in (("Failed", False), ("draw", True)):
        batch = record(0, terminated=True, outcome=word)
        at = batch.schema.get_field_index("outcome")
        frames = RunFrames("r")
        frames.append_episodes(batch.set_column(at, "outcome", batch.column(at).dictionary_encode()))
        assert ("extra_outcome" in frames.episodes()) == further


def test_flags_that_the_record_leaves_out_are_taken_from_the_last_step() -> None:
    frames = RunFrames("r")
    frames.append_steps(steps(range(4)))
    frames.append_steps(steps([4], truncated=True))
    frames.append_episodes(record(0, reward=0.0))
    assert frames.episodes()["truncated"].tolist() == [True]
    assert frames.episodes()["outcome"].tolist() == ["Timeout"]


def test_missing_steps_are_named_once_they_are_overtaken_and_not_while_they_may_come() -> None:
    frames = RunFrames("r")
    frames.append_episodes(record(0))
    frames.append_steps(steps(range(3)))
    assert not frames.problems()
    frames.append_steps(steps(range(2), episode=1))
    (problem,) = frames.problems()
    assert (problem.kind, problem.count) == ("gap", 2)
    assert "2 steps from step 3 of episode 0" in problem.detail
    assert frames.episodes()["complete"].tolist() == [False, True]
    frames.append_steps(steps([3, 4]))
    assert not frames.problems()


def test_since_gives_what_is_new_and_no_more_than_asked_for() -> None:
    frames = RunFrames("r")
    frames.append_steps(steps(range(100)))
    delta = frames.since(Cursor(), 30, 10)
    assert (delta.first, delta.steps.num_rows, delta.episodes.num_rows) == (70, 30, 1)
    assert frames.since(delta.cursor, 30, 10).steps.num_rows == 0
    frames.append_steps(steps(range(2), episode=1))
    delta = frames.since(delta.cursor, 30, 10)
    assert (delta.first, delta.steps.num_rows) == (100, 2)
    assert delta.episodes.column("row").to_pylist() == [1]


def test_small_batches_are_merged_into_few_chunks() -> None:
    frames = RunFrames("r")
    for n in range(1_000):
        frames.append_steps(steps([n]))
    assert len(frames._steps.chunks) <= 12
    assert held(frames) == [(0, n) for n in range(1_000)]
    assert frames.rows(500, 3).column("step_index").to_pylist() == [500, 501, 502]


def test_the_dataframe_is_kept_until_something_changes() -> None:
    frames = RunFrames("r")
    frames.append_steps(steps(range(3)))
    first = frames.steps()
    assert frames.steps() is first
    frames.append_steps(steps([3]))
    assert frames.steps() is not first


def test_actions_are_numbers_when_all_are() -> None:
    frames = RunFrames("r")
    frames.append_steps(steps([0], action=2))
    assert frames.steps()["action"].dtype == "int64"
    frames.append_steps(steps([1], action=[0.5, 1]))
    assert frames.steps()["action"].tolist() == ["2", "[0.5,1]"]


def test_listeners_hear_of_changes_until_they_stop() -> None:
    frames = RunFrames("r")
    heard = threading.Event()
    stop = frames.listen(heard.set)
    frames.append_steps(steps([0]))
    assert heard.is_set()
    stop()
    heard.clear()
    frames.append_steps(steps([1]))
    assert not heard.is_set()


def test_empty_frames_have_the_columns() -> None:
    frames = RunFrames("r")
    assert list(frames.steps().columns[:5]) == ["run_id", "worker_id", "agent_id", "episode", "step_index"]
    assert "outcome" in frames.episodes().columns
    assert len(frames.episodes()) == 0


def test_an_integer_that_a_double_would_round_stays_exact_when_floats_follow() -> None:
    frames = RunFrames("r")
    frames.append_steps(steps([0], x=2**60 + 1))
    frames.append_steps(steps([1], x=0.5))
    assert frames.steps()["x"].tolist() == [str(2**60 + 1), "0.5"]


def test_plain_text_and_json_text_in_one_column_can_be_told_apart() -> None:
    frames = RunFrames("r")
    frames.append_steps(steps([0], x="[1]"))
    frames.append_steps(steps([1], x=[{"a": 1}]))
    assert frames.steps()["x"].tolist() == ['"[1]"', '[{"a":1}]']


# -- workers that are not named ----------------------------------------------------------------------------------------


def replayed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return steps as a daemon's database gives them back."""
    rows = [{**row, "worker_id": "", "episode_seed": None, "render_payload": None} for row in batch.to_pylist()]
    return pa.RecordBatch.from_pylist(rows, batch.schema)


def of_worker(name: str, numbers: range, at: int = 10**18, **more: Any) -> pa.RecordBatch:
    events = [
        {"worker_id": name, "episode": 0, "step_index": n, "reward": 1.0, "action": n % 3, "ts_unix_ns": at + n, **more}
        for n in numbers
    ]
    return normalize.steps_from_events(events).batch


def workers(frames: RunFrames) -> dict[str, list[int]]:
    table = frames.steps_table()
    names, numbers = (table.column(c).to_pylist() for c in ("worker_id", "step_index"))
    return {name: [n for w, n in zip(names, numbers, strict=True) if w == name] for name in dict.fromkeys(names)}


@pytest.mark.parametrize("replay_first", [True, False])
def test_steps_replayed_without_their_worker_are_those_of_the_one_that_has_them(*, replay_first: bool) -> None:
    live = of_worker("w", range(4, 10), render_payload={"mode": "grid"}, episode_seed=7)
    old = replayed(of_worker("w", range(7)))
    frames = RunFrames("r")
    for batch in (old, live) if replay_first else (live, old):
        frames.append_steps(batch)
    assert workers(frames) == {"w": list(range(10))}
    assert frames.episode_count == 1
    assert frames.steps()["episode_seed"].isna().tolist() == [True] * 4 + [False] * 6
    assert not frames.problems()


def test_steps_that_go_on_where_a_nameless_replay_ended_are_of_the_same_episode() -> None:
    frames = RunFrames("r")
    frames.append_steps(replayed(of_worker("w", range(5))))
    frames.append_steps(of_worker("w", range(5, 8)))
    assert workers(frames) == {"w": list(range(8))}
    assert frames.episodes()["worker_id"].tolist() == ["w"]


def test_an_episode_that_gets_its_worker_late_has_ended_once() -> None:
    frames = RunFrames("r")
    old = of_worker("w", range(4))
    frames.append_steps(replayed(old))
    assert frames.ended_episodes() == [0]
    frames.append_steps(of_worker("w", range(3, 5)))
    frames.append_steps(of_worker("w", range(5, 6), terminated=True))
    frames.append_steps(of_worker("w", range(5, 6), terminated=True))
    assert frames.ended_episodes() == [1]
    frames.append_steps(of_worker("w", range(2), agent_id="other"))
    assert frames.ended_episodes() == [1, 0]
    assert frames.ended_episodes("other") == [0]


def test_two_workers_are_told_apart_by_the_steps_themselves() -> None:
    frames = RunFrames("r")
    frames.append_steps(of_worker("v", range(6), at=10**18))
    frames.append_steps(of_worker("w", range(6), at=2 * 10**18))
    frames.append_steps(replayed(of_worker("w", range(3, 9), at=2 * 10**18)))
    assert workers(frames) == {"v": list(range(6)), "w": list(range(9))}


def test_a_nameless_worker_beside_a_named_one_stays_itself() -> None:
    frames = RunFrames("r")
    frames.append_steps(of_worker("", range(4), at=10**18))
    frames.append_steps(of_worker("w", range(4), at=2 * 10**18))
    frames.append_steps(of_worker("", range(4, 6), at=10**18))
    assert workers(frames) == {"": list(range(6)), "w": list(range(4))}


def test_named_and_nameless_copies_in_one_batch_are_one() -> None:
    live = of_worker("w", range(6))
    both = [*replayed(live).to_pylist(), *live.to_pylist()]
    frames = RunFrames("r")
    frames.append_steps(pa.RecordBatch.from_pylist(both, live.schema))
    assert workers(frames) == {"w": list(range(6))}


def test_records_find_their_worker_too() -> None:
    frames = RunFrames("r")
    frames.append_steps(of_worker("w", range(5)))
    frames.append_episodes(record(0, agent_id="", steps=5))
    frames.append_episodes(record(0, agent_id="", steps=5, metadata={"game_id": "FrozenLake-v1"}))
    (row,) = frames.episodes().to_dict("records")
    assert (row["worker_id"], row["source"], row["game_id"]) == ("w", "record", "FrozenLake-v1")


# -- copies that differ, and what is missing ---------------------------------------------------------------------------


def test_a_copy_that_says_something_else_is_counted_and_the_first_kept() -> None:
    frames = RunFrames("r")
    frames.append_steps(steps(range(3)))
    frames.append_steps(steps(range(3), reward=float("nan")))
    (problem,) = frames.problems()
    assert (problem.kind, problem.count) == ("conflict", 3)
    assert frames.steps()["reward"].tolist() == [1.0] * 3


def test_copies_of_one_step_in_one_batch_each_add_what_they_have() -> None:
    frames = RunFrames("r")
    frames.append_steps(steps([0]))
    both = [
        {"episode": 0, "step_index": 0, "reward": 1.0, "agent_id": "a", "epsilon": 0.5},
        {"episode": 0, "step_index": 0, "reward": 1.0, "agent_id": "a", "policy_label": "p"},
    ]
    frames.append_steps(normalize.steps_from_events(both).batch)
    assert frames.steps()[["epsilon", "policy_label"]].to_dict("records") == [{"epsilon": 0.5, "policy_label": "p"}]


def test_episodes_jumped_over_by_an_agent_that_counts_by_one_are_named_until_they_come() -> None:
    frames = RunFrames("r")
    for number in (3, 4, 5, 9):
        frames.append_steps(steps(range(2), episode=number))
    (problem,) = frames.problems()
    assert (problem.kind, problem.count) == ("episode_gap", 3)
    assert "episode 6 to 8 of agent 'a'" in problem.detail
    assert frames.gaps() == [("", "a", 6, 8, 0, 0)]
    for number in (7, 8, 6):
        frames.append_steps(steps(range(2), episode=number))
    assert not frames.problems()


def test_an_agent_that_counts_by_strides_misses_nothing() -> None:
    frames = RunFrames("r")
    for number in range(0, 400, 4):
        frames.append_steps(steps(range(2), episode=number))
    assert not frames.problems()


def test_what_is_missing_at_the_very_end_is_named_when_the_run_is_settled() -> None:
    frames = RunFrames("r")
    frames.append_steps(steps(range(3)))
    frames.append_episodes(record(0))
    assert not frames.problems()
    frames.settle()
    assert [(p.kind, p.count) for p in frames.problems()] == [("gap", 2)]
    frames.append_steps(steps([3, 4]))
    assert not frames.problems()


def test_a_record_that_contradicts_its_steps_is_named() -> None:
    frames = RunFrames("r")
    frames.append_steps(steps(range(5)))
    frames.append_steps(steps(range(2), episode=1))
    frames.append_episodes(record(0))
    assert not frames.problems()
    frames.append_episodes(record(0, reward=7.0))
    other, problem = frames.problems()
    assert (other.kind, other.count) == ("conflict", 1)
    assert (problem.kind, problem.count) == ("contradiction", 1)
    assert "a total of 7" in problem.detail
    assert "add up to 5" in problem.detail


def test_records_that_contradict_one_another_are_kept_and_counted_once_however_often_they_are_resent() -> None:
    frames = RunFrames("r")
    for _ in range(50):
        for total in (5.0, 7.0):
            frames.append_episodes(record(0, reward=total))
    assert [(p.kind, p.count) for p in frames.problems()] == [("conflict", 1)]
    assert frames.episodes()["total_reward"].tolist() == [7.0]
    assert frames.news == 1


def test_an_episode_under_way_when_the_run_ended_is_unfinished() -> None:
    frames = RunFrames("r")
    frames.append_steps(steps(range(2)))
    assert frames.episodes()["outcome"].tolist() == ["Running"]
    frames.settle()
    assert frames.episodes()["outcome"].tolist() == ["Unfinished"]


def test_episodes_ascend_whatever_came_first() -> None:
    frames = RunFrames("r")
    frames.append_episodes(record(4))
    for number in (5, 3, 4):
        frames.append_steps(steps(range(2), episode=number))
    assert held(frames) == [(e, n) for e in (3, 4, 5) for n in range(2)]
    assert frames.episodes()["episode"].tolist() == [3, 4, 5]


def test_what_comes_while_a_dataframe_is_made_is_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = RunFrames("r")
    frames.append_steps(steps(range(2)))
    frames.append_episodes(record(0))
    make = _columns.to_frame

    def late(*args: Any, **more: Any) -> Any:
        frames.append_steps(steps([frames.step_count]))
        frames.append_episodes(record(frames.episode_count))
        return make(*args, **more)

    monkeypatch.setattr(_columns, "to_frame", late)
    frames.steps(), frames.episodes()
    monkeypatch.undo()
    assert len(frames.steps()) == frames.step_count == 4
    assert len(frames.episodes()) == frames.episode_count == 3


def test_the_dataframe_is_whole_whoever_appends_meanwhile() -> None:
    frames = RunFrames("r")
    frames.append_steps(steps(range(1)))
    done = threading.Event()

    def append() -> None:
        for n in range(1, 400):
            frames.append_steps(steps([n]))
        done.set()

    thread = threading.Thread(target=append)
    thread.start()
    seen = 0
    while not done.is_set():
        frame = frames.steps()
        assert len(frame) >= seen
        assert frame["step_index"].tolist() == list(range(len(frame)))
        seen = len(frame)
    thread.join()
    assert len(frames.steps()) == 400


def test_rows_can_come_while_a_dataframe_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = RunFrames("r")
    frames.append_steps(steps(range(2)))
    make = _columns.to_frame

    def beside(*args: Any, **more: Any) -> Any:
        thread = threading.Thread(target=frames.append_steps, args=(steps([2]),), daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), "the frames are locked while pandas works"
        return make(*args, **more)

    monkeypatch.setattr(_columns, "to_frame", beside)
    frames.steps()
    frames.episodes()


@pytest.mark.parametrize("name", ["row", "source", "outcome", "complete", "episode_seed"])
def test_metadata_may_have_the_names_of_our_columns(name: str) -> None:
    frames = RunFrames("r")
    frames.append_episodes(record(0, metadata={name: "theirs", f"extra_{name}": "both"}))
    frame = frames.episodes()
    assert frame[f"extra_extra_{name}"].tolist() == ["theirs"]
    assert frame[f"extra_{name}"].tolist() == ["both"]
    assert frames.since(Cursor(), 5, 5).episodes.column("row").to_pylist() == [0]
    assert frame["source"].tolist() == ["record"]


def test_text_that_was_null_at_first_is_not_quoted() -> None:
    frames = RunFrames("r")
    frames.append_steps(steps([0], note=None))
    frames.append_steps(steps([1], note="hello"))
    frames.append_steps(steps([2], note=None))
    frames.append_episodes(record(0, metadata={"error": None}))
    frames.append_episodes(record(1, metadata={"error": "boom"}))
    assert frames.steps()["note"].fillna("").tolist() == ["", "hello", ""]
    assert frames.episodes()["error"].fillna("").tolist() == ["", "boom"]


def test_large_texts_are_not_merged_beyond_what_a_column_can_hold() -> None:
    frames = RunFrames("r")
    text = "x" * 1_000_000
    for n in range(0, 160, 8):
        frames.append_steps(steps([159 - i for i in range(n, n + 8)], render_payload=text))
    assert frames.step_count == 160
    assert max(chunk.nbytes for chunk in frames._steps.chunks) < 100_000_000
    table = frames.steps_table()
    assert table.column("step_index").to_pylist() == list(range(160))
    assert pc.min(pc.binary_length(table.column("render_payload"))).as_py() == len(text) + 2


def test_what_is_missing_is_counted_beyond_what_is_listed_and_without_looking_at_it_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames = RunFrames("r")
    events = [{"episode": e, "step_index": n, "reward": 1.0, "agent_id": "a"} for e in range(12_000) for n in (0, 2)]
    frames.append_steps(normalize.steps_from_events(events).batch)
    frames.append_steps(steps([0], episode=12_010))
    assert len([gap for gap in frames.gaps() if gap.steps]) == 10_000
    assert [(gap.episode, gap.last_episode) for gap in frames.gaps() if not gap.steps] == [(12_000, 12_009)]

    def forbidden(*_: object) -> None:
        pytest.fail("all gaps are made anew to count them")

    frames.append_steps(steps([5], episode=12_010))
    monkeypatch.setattr(Episode, "gaps", forbidden)
    found = {p.kind: p for p in frames.problems()}
    assert (found["gap"].count, found["episode_gap"].count) == (12_004, 10)
    assert "4 steps from step 1 of episode 12010" in found["gap"].detail


def test_a_listener_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    frames = RunFrames("r")
    heard = []

    def bad() -> None:
        message = "a user's mistake"
        raise RuntimeError(message)

    frames.listen(bad)
    frames.listen(lambda: heard.append(1))
    assert frames.append_steps(steps(range(3))).num_rows == 3
    assert heard == [1]
    assert "a user's mistake" in caplog.text


def test_the_table_of_episodes_is_made_anew_only_where_something_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, fresh = RunFrames("r"), RunFrames("r")
    batches = [steps(range(3), episode=n) for n in range(2_500)]
    for batch in batches:
        frames.append_steps(batch)
        fresh.append_steps(batch)
    frames.episodes_table()
    made: list[int] = []
    make = Summaries._batch

    def counted(self: Summaries, episodes: Any) -> Any:
        made.append(len(episodes))
        return make(self, episodes)

    monkeypatch.setattr(Summaries, "_batch", counted)
    later: list[pa.RecordBatch] = [
        steps([3], episode=7, episode_seed=5),
        record(1_200, row="theirs", metadata={"row": 1}),
        record(1_200, row="theirs", metadata={"row": 1, "lives": 3}),  # a richer copy
        record(2_499, terminated=True),
    ]
    for batch in later:
        for each in (frames, fresh):
            (each.append_steps if "step_index" in batch.schema.names else each.append_episodes)(batch)
        del made[:]
        frames.episodes_table()
        assert len(made) == 1
    assert frames.episodes_table().to_pylist() == fresh.episodes_table().to_pylist()
    for each in (frames, fresh):
        each.settle()
    assert frames.episodes_table().to_pylist() == fresh.episodes_table().to_pylist()
    assert "Unfinished" in frames.episodes()["outcome"].tolist()


def test_the_log_of_changes_does_not_grow_with_the_steps() -> None:
    frames = RunFrames("r")
    for n in range(3_000):
        frames.append_steps(steps([n], episode=0 if n % 3 else 1))
    assert len(frames._changed) < 1_100
    assert frames.changed(frames.revision - 1, 5) == [1]
    assert frames.changed(0, 5) == [0, 1]
    assert frames.changed(0, 1) == [1]


def test_rewards_that_are_not_finite_are_counted_once_a_row() -> None:
    frames = RunFrames("r")
    odd = pa.concat_batches([steps([0], reward=float("nan")), steps([1]), steps([2], reward=float("-inf"))])
    frames.append_steps(odd)
    frames.append_steps(odd)
    frames.append_episodes(record(0, reward=float("nan")))
    frames.append_episodes(record(0, reward=float("nan")))
    counts = {problem.kind: problem.count for problem in frames.problems()}
    assert counts["not_finite"] == 3
