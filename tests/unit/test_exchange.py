"""Runs as files of others' formats: what is in them, and what is refused."""

from __future__ import annotations

import io
import json
import sys
import warnings
from typing import TYPE_CHECKING, Any

import minari
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import live_telemetry_widget as ltw
from live_telemetry_widget import batches, exchange, exports, frames, normalize
from live_telemetry_widget.errors import MissingPackageError, NoDataError, RecordingError
from live_telemetry_widget.proto import trainer_pb2
from live_telemetry_widget.store import RunRow
from tests.support.runs import played, run_of

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def lake() -> Iterator[ltw.Run]:
    with run_of(played("--env", "FrozenLake-v1", "--episodes", "6")) as run:
        yield run


def frames_of(count: int, run_id: str = "r", **more: Any) -> frames.RunFrames:
    """Return a run of an episode of so many steps."""
    made = frames.RunFrames(run_id)
    events = [{"type": "step", "episode": 0, "step_index": i, "reward": 1.0, **more} for i in range(count)]
    made.append_steps(normalize.steps_from_events(events, run_id=run_id).batch)
    return made


def load(path: pathlib.Path) -> minari.MinariDataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Minari's own, about itself
        return minari.MinariDataset(path / "data")


def test_a_minari_dataset_has_the_environment_the_seeds_and_the_names(lake: ltw.Run, tmp_path: pathlib.Path) -> None:
    written = lake.export(tmp_path / "lake-v0", format="minari")
    assert (written.steps, written.episodes, written.left_out) == (len(lake.steps), 6, 0)
    dataset = load(tmp_path / "lake-v0")
    assert dataset.id == "lake-v0"
    env = dataset.recover_environment()
    assert env.spec is not None
    assert env.spec.id == "FrozenLake-v1"
    assert env.unwrapped.desc.shape == (4, 4)  # type: ignore[attr-defined]
    env.close()
    metadata = list(dataset.storage.get_episode_metadata(range(6)))
    assert [(m["seed"], m["episode"], m["agent_id"]) for m in metadata] == [(n, n, "q_agent") for n in range(6)]
    episode = list(dataset.iterate_episodes())[3]
    steps = lake.episode(3)
    assert episode.actions.tolist() == steps["action"].tolist()
    assert [json.loads(text)["state"] for text in episode.observations] == [
        *steps["state"],
        steps["next_state"].iloc[-1],
    ]


def test_an_episode_that_lacks_steps_is_left_out_and_counted(tmp_path: pathlib.Path) -> None:
    def step(episode: int, index: int) -> dict[str, Any]:
        return {"type": "step", "episode": episode, "step_index": index, "reward": 1.0 * index, "observation": index}

    events = [step(0, 1), step(1, 0), step(1, 1), step(2, 0), step(2, 2), step(3, 0)]
    with run_of(events) as run:
        written = run.export(tmp_path / "gaps-v1", format="minari")
        assert (written.steps, written.episodes, written.left_out) == (3, 2, 2)
        whole = list(load(tmp_path / "gaps-v1").iterate_episodes())
        assert [e.rewards.tolist() for e in whole] == [[0.0, 1.0], [0.0]]
        assert [e.observations.tolist() for e in whole] == [[0, 1, 1], [0, 0]]
        with pytest.raises(RecordingError, match="there and not empty"):
            run.export(tmp_path / "gaps-v1", format="minari")
        with pytest.raises(
            RecordingError, match=r"'gaps' is no name of a Minari dataset; give a directory like 'lake-v0'"
        ):
            run.export(tmp_path / "gaps", format="minari")
    with run_of(events[:1]) as run, pytest.raises(NoDataError, match="no whole episode"):
        run.export(tmp_path / "none-v0", format="minari")
    assert not (tmp_path / "none-v0").exists()


def test_an_episode_whose_end_is_missing_is_left_out(tmp_path: pathlib.Path) -> None:
    made = frames_of(8, observation=0.5)
    whole = [{"type": "step", "episode": 1, "step_index": i, "reward": 1.0, "observation": 0.5} for i in range(3)]
    made.append_steps(normalize.steps_from_events(whole, run_id="r").batch)
    records = [{"type": "episode", "episode": n, "steps": s, "total_reward": 1.0} for n, s in ((0, 10), (1, 3), (2, 4))]
    made.append_episodes(normalize.episodes_from_events(records, run_id="r").batch)
    written = exchange.export(made, RunRow("r", 7), tmp_path / "lake-v0", "minari")
    assert (written.steps, written.episodes, written.left_out) == (3, 1, 2)
    assert [len(episode.rewards) for episode in load(tmp_path / "lake-v0").iterate_episodes()] == [3]


def test_an_action_that_is_no_json_is_written_as_the_text_it_is(tmp_path: pathlib.Path) -> None:
    made = frames.RunFrames("r")
    raw = [trainer_pb2.RunStep(run_id="r", step_index=i, action_json=text) for i, text in enumerate(("left", "2"))]
    made.append_steps(normalize.steps_from_messages(raw).batch)
    exchange.export(made, RunRow("r", 7), tmp_path / "lake-v0", "minari")
    [episode] = load(tmp_path / "lake-v0").iterate_episodes()
    assert [json.loads(text) for text in episode.actions] == ["left", 2]


def test_without_minari_it_is_said_what_is_missing(
    lake: ltw.Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'live_telemetry_widget\[minari\]'"):
        lake.export(tmp_path / "lake-v0", format="minari")


def test_a_dataset_for_hugging_face(lake: ltw.Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "_SHARD_ROWS", 1)
    monkeypatch.setattr(exports, "_GROUP_ROWS", 1)
    monkeypatch.setattr("live_telemetry_widget.exchange._ROWS", 20)
    folder = tmp_path / "lake"
    written = lake.export(folder, format="huggingface")
    head, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n")[1:]
    card = yaml.safe_load(head)
    assert {c["config_name"]: c["data_files"] for c in card["configs"]} == {
        "steps": "steps/*.parquet",
        "episodes": "episodes/*.parquet",
    }
    assert card["size_categories"] == ["n<1K"]
    assert "game: `FrozenLake-v1`" in body
    shards = sorted(folder.glob("steps/*.parquet"))
    assert len(shards) > 1
    assert {folder / "README.md", *shards} < {*written.paths}
    read = pl.read_parquet(str(folder / "steps" / "*.parquet"))
    assert read["reward"].to_list() == lake.steps_arrow["reward"].to_pylist()
    assert read.schema["agent_id"] == pl.String
    assert (
        pq.read_table(folder / "episodes" / "train-00000.parquet")["steps"].to_pylist()
        == lake.episodes["steps"].tolist()
    )
    with pytest.raises(RecordingError, match="there and not empty"):
        lake.export(folder, format="huggingface")


def test_an_export_of_a_run_in_memory_is_opened_again(lake: ltw.Run, tmp_path: pathlib.Path) -> None:
    lake.export(tmp_path / "lake.parquet")
    with ltw.open(tmp_path / "lake.parquet") as recording:
        again = recording.run("r")
        assert again.steps_arrow["observation"] == lake.steps_arrow["observation"]
        assert again.episodes_arrow.drop_columns(["seq_id"]) == lake.episodes_arrow.drop_columns(["seq_id"])
        assert again.status == "completed"
        again.export(tmp_path / "again.csv")
    read = pl.read_csv(tmp_path / "again.csv")
    assert read["action"].to_list() == lake.steps["action"].tolist()
    assert read["episode_seed"].to_list() == lake.steps["episode_seed"].tolist()


def test_a_format_that_is_none_is_refused(lake: ltw.Run, tmp_path: pathlib.Path) -> None:
    with pytest.raises(RecordingError, match=r"does not end in \.parquet, .*give format="):
        lake.export(tmp_path / "run.xlsx")
    with pytest.raises(RecordingError, match="format is 'excel'; give one of 'parquet'"):
        lake.export(tmp_path / "run.xlsx", format="excel")  # type: ignore[arg-type]
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(RecordingError, match="cannot be written"):
        lake.export(blocked / "run.csv")


# -- what stays here ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["parquet", "arrow", "csv", "jsonl", "huggingface"])
def test_environment_variables_are_in_no_export(tmp_path: pathlib.Path, form: str) -> None:
    config = {"run_name": "n", "arguments": ["--lr", "1"], "environment": {"API_KEY": "tell-nobody"}}
    row = RunRow("r", 7, config_json=json.dumps(config))
    written = exchange.export(frames_of(2), row, tmp_path / "out", form)
    assert not any(b"tell-nobody" in path.read_bytes() for path in written.paths)
    if form in exports.TABLES:
        named = (tmp_path / "out").rename(tmp_path / f"out.{form}")
        with ltw.open(named) as recording:
            assert recording.run("r").info.config == {"run_name": "n", "arguments": ["--lr", "1"]}


# -- lines that are events ---------------------------------------------------------------------------------------------


def lines_of(made: frames.RunFrames) -> list[dict[str, Any]]:
    """Return the steps' lines of a run."""
    out = io.StringIO()
    exports.write_lines(exchange.InMemory(made), RunRow("r", 7), out)
    return [json.loads(line) for line in out.getvalue().splitlines()[1:]]


def test_a_further_field_named_as_what_makes_an_event_is_set_apart() -> None:
    said = {"type": "dagger", "ts_unix_ns": "noon", "extra_type": 1}
    message = trainer_pb2.RunStep(run_id="r", extras_json=json.dumps(said))
    message.timestamp.FromNanoseconds(7)
    normalized = normalize.steps_from_messages([message]).batch
    assert {"extra_type", "extra_ts_unix_ns", "extra_extra_type"} < set(normalized.schema.names)
    assert json.loads(normalize.step_messages(normalized)[0].extras_json) == said
    sent = frames_of(1).steps_table().combine_chunks().to_batches()[0]
    for name, value in said.items():
        sent = sent.append_column(name, pa.array([value]))
    received = batches.decode(batches.encode(sent), "steps", "r").batch
    assert {"extra_extra_type", "extra_ts_unix_ns", "extra_type"} < set(received.schema.names)
    # A recording of an older version may hold them under their own names.
    for batch in (normalized, received, sent):
        made = frames.RunFrames("r")
        made.append_steps(batch)
        [line] = lines_of(made)
        assert line["type"] == "step"
        assert line.get("ts_unix_ns") in (7, None)
        assert sorted(str(line[name]) for name in line if name.startswith("extra_")) == ["1", "dagger", "noon"]
        assert normalize.steps_from_events([line], run_id="r").batch.num_rows == 1


def test_rewards_that_json_has_no_word_for_are_read_again() -> None:
    rewards = [float("inf"), float("-inf"), float("nan"), 0.5]
    made = frames.RunFrames("r")
    events = [{"type": "step", "episode": 0, "step_index": i, "reward": r, "loss": r} for i, r in enumerate(rewards)]
    made.append_steps(normalize.steps_from_events(events, run_id="r").batch)
    lines = lines_of(made)
    assert [line["reward"] for line in lines] == ["Infinity", "-Infinity", "NaN", 0.5]
    assert [line["loss"] for line in lines] == [None, None, None, 0.5]
    again = normalize.steps_from_events(lines, run_id="r").batch
    assert str(again.column("reward").to_pylist()) == str(rewards)


# -- one beside another ------------------------------------------------------------------------------------------------


def test_an_export_that_was_killed_leaves_nothing_for_the_next(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "_SHARD_ROWS", 1)
    monkeypatch.setattr(exports, "_GROUP_ROWS", 1)
    monkeypatch.setattr(exchange, "_ROWS", 1)
    folder = tmp_path / "data"

    def write(count: int, progress: Callable[[int], object]) -> exports.Written:
        return exchange.write_dataset(exchange.InMemory(frames_of(count)), RunRow("r", 7), folder, {}, progress)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(6, stop)
    assert list(tmp_path.iterdir()) == []
    # Killed, so that it could not even clean up.
    left = tmp_path / "data.part" / "steps" / "train-00005.parquet"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    folder.mkdir()
    written = write(2, lambda _: None)
    assert list(tmp_path.iterdir()) == [folder]
    assert {path for path in folder.rglob("*") if path.is_file()} == {*written.paths}
    assert pl.read_parquet(folder / "steps" / "*.parquet").height == written.steps == 2
    with pytest.raises(RecordingError, match="there and not empty"):
        write(2, lambda _: None)


@pytest.mark.parametrize("form", exports.TABLES)
def test_a_run_whose_id_ends_as_a_file_of_episodes_does(tmp_path: pathlib.Path, form: exports.Format) -> None:
    def write(run_id: str, name: str) -> None:
        exchange.export(frames_of(2, run_id), RunRow(run_id, 7), tmp_path / f"{name}.{form}")

    write("a.episodes", "a.episodes")
    write("b", "b")
    with ltw.open(tmp_path) as recording:
        assert sorted(recording.runs()["run_id"]) == ["a.episodes", "b"]
        assert len(recording.run("a.episodes").steps) == 2
    with pytest.raises(RecordingError, match="holds the steps of an exported run, where episodes are to be written"):
        write("a", "a")
    with pytest.raises(RecordingError, match="holds the episodes of an exported run, where steps are to be written"):
        write("b.episodes", "b.episodes")
    write("b", "b")


def test_an_export_of_a_newer_version_is_read_as_far_as_it_is_known(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "r.parquet"
    exchange.export(frames_of(2), RunRow("r", 7), path)
    table = pq.read_table(path)

    def tell(run: object) -> None:
        about = {**table.schema.metadata, b"live_telemetry_widget.run": json.dumps(run).encode()}
        pq.write_table(table.replace_schema_metadata(about), path)

    tell({"run_id": "r", "status": 7, "mood": "good"})
    with ltw.open(path) as recording:
        assert len(recording.run("r").steps) == 2
    wrong: list[object] = [{"status": 7}, {"run_id": ["r"], "status": 7}, 3, None, "r"]
    for run in wrong:
        tell(run)
        with pytest.raises(RecordingError, match="a way that this version cannot read"):
            ltw.open(path)
