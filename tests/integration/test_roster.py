"""Which run is meant: by id, by name, by neither."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget.worker.emitter import Emitter
from tests.conftest import wait_for

if TYPE_CHECKING:
    import pathlib


def test_runs_are_found_by_name_and_a_wrong_id_is_told(tmp_path: pathlib.Path) -> None:
    with ltw.serve(tmp_path / "data") as server:
        for run_id in ("first", "second"):
            with Emitter(server.address, run_id, name="mine", spool_dir=False) as emitter:
                emitter.step(0, 1.0, terminated=True)
        with ltw.connect(server.address) as client:
            frame = client.runs()
            told = frame[["run_id", "name", "steps", "episodes"]].values.tolist()
            assert told == [["second", "mine", 1, 1], ["first", "mine", 1, 1]]
            assert client.run(name="mine").run_id == "second"
            with pytest.raises(ltw.RunNotFoundError, match=r"no run named 'mime' .* nearest: second \(named 'mine'\)"):
                client.run(name="mime")
            with pytest.raises(TypeError, match="give the id of a run"):
                client.run()
            with pytest.raises(TypeError, match="run_id is 3"):
                client.run(3)  # type: ignore[arg-type]  # what is tested

            run = client.run("mine")
            wait_for(lambda: run.feed.unknown, "the daemon has said that it knows no such run")
            with pytest.warns(UserWarning, match="knows no run 'mine'.*a run named 'mine' has the id second"):
                assert len(run.steps) == 0
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert len(run.episodes) == 0  # told once
            # And it may still come.
            with Emitter(server.address, "mine", spool_dir=False) as emitter:
                emitter.step(0, 1.0, terminated=True)
            run.wait(60)
            assert (run.feed.unknown, len(run.steps)) == ("", 1)
    with ltw.open(tmp_path / "data") as recording:
        assert recording.runs()[["run_id", "steps"]].values.tolist() == [["mine", 1], ["second", 1], ["first", 1]]
        assert recording.run(name="mine").run_id == "second"
