"""A run as one HTML file: what is in it, what is left out, and that nothing of the run gets out of its place."""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget import normalize
from live_telemetry_widget.errors import QueryError
from live_telemetry_widget.feed import Link, RunFeed
from live_telemetry_widget.report import page

if TYPE_CHECKING:
    import pathlib

EVIL = "</script><script>alert(1)</script><!--<script>"


def run_of(episodes: int, steps: int = 20, name: str = "mine", **fields: Any) -> ltw.Run:
    """Return a run that has ended, of a walk on ice whose every fifth episode fails."""
    feed = RunFeed(name, Link("recording"))
    rng = np.random.default_rng(0)
    events = [
        {
            "episode": episode,
            "step_index": index,
            "action": int(rng.integers(4)),
            "reward": (-1.0 if episode % 5 == 0 else 1.0) if index == steps - 1 else 0.0,
            "terminated": index == steps - 1,
            "observation": {
                "position": {"row": int(rng.integers(4)), "col": int(rng.integers(4))},
                "goal": {"row": 3, "col": 3},
                "grid_size": 4,
                "holes": [{"row": 1, "col": 1}],
            },
            "q_before": float(rng.random()),
            **fields,
        }
        for episode in range(episodes)
        for index in range(steps)
    ]
    feed.frames.append_steps(normalize.steps_from_events(events, run_id=name).batch)
    feed.finish()
    return ltw.Run(feed)


def blocks_of(path: Any) -> dict[str, str]:
    """Return the blocks of a report by name."""
    html = path.path.read_text(encoding="utf-8")
    return dict(re.findall(r'<script type="text/plain" id="ltw-([\w-]+)">([A-Za-z0-9+/=]*)</script>', html))


def unpacked(text: str) -> bytes:
    return gzip.decompress(base64.b64decode(text))


def steps_in(blocks: dict[str, str]) -> pa.Table:
    parts = [unpacked(text) for name, text in blocks.items() if name.startswith("steps-")]
    tables = [pa.ipc.open_stream(part).read_all() for part in parts]
    return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({"episode": []})


def test_a_report_holds_all_of_a_small_run(tmp_path: pathlib.Path) -> None:
    run = run_of(300)
    report = run.to_html(tmp_path / "r.html")
    blocks = blocks_of(report)
    meta = json.loads(unpacked(blocks["meta"]))
    assert meta["counts"] == [20] * 300
    assert sum(meta["blocks"]) == 6_000 == report.steps
    assert meta["state"]["run_id"] == "mine"
    steps = steps_in(blocks)
    for name in ("episode", "step_index", "reward", "q_before"):
        assert steps[name].to_pylist() == run.steps[name].tolist()
    episodes = pa.ipc.open_stream(unpacked(blocks["episodes"])).read_all()
    assert episodes["total_reward"].to_pylist() == run.episodes["total_reward"].tolist()
    pictures = json.loads(unpacked(blocks["pictures-0"]))
    assert len(pictures["drawn"]) == len(pictures["actions"]) == meta["blocks"][0]
    assert 0 < len(pictures["grids"]) <= 16, "each picture once"
    seen = json.loads(run.steps["observation"][7])["position"]
    assert pictures["grids"][pictures["drawn"][7]]["agent"] == [seen["row"], seen["col"]]
    # Where each step began: what its action is worth belongs there.
    assert pictures["spots"][pictures["begins"][7]] == ["||", seen["row"], seen["col"]]
    assert len(pictures["begins"]) == meta["blocks"][0]
    assert len(pictures["spots"]) <= 16, "each place once"
    assert report.size == (tmp_path / "r.html").stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_1000_episodes_are_far_under_5_megabytes(tmp_path: pathlib.Path) -> None:
    report = run_of(1_000, steps=60).to_html(tmp_path / "r.html")
    assert report.steps == 60_000, "all of it"
    assert report.size < 5_000_000


def test_what_the_limit_leaves_out_is_said_and_the_newest_and_the_worst_stay(tmp_path: pathlib.Path) -> None:
    run = run_of(600)
    whole = run.to_html(tmp_path / "all.html")
    data = sum(len(text) for name, text in blocks_of(whole).items() if name.startswith(("steps", "pictures")))
    # Large enough for the page, too small for all.
    limit = whole.size - data // 2
    report = run.to_html(tmp_path / "r.html", limit=limit)
    assert limit - data // 3 < report.size <= limit, "what fits is used"
    meta = json.loads(unpacked(blocks_of(report)["meta"]))
    kept = [episode for episode, count in enumerate(meta["counts"]) if count >= 0]
    assert 0 < len(kept) < 600
    assert kept[-20:] == list(range(580, 600)), "the newest"
    assert set(range(0, 600, 5)) <= set(kept), "those with the lowest return"
    assert steps_in(blocks_of(report))["episode"].to_pylist() == [e for e in kept for _ in range(20)]
    assert (
        f"the steps of {600 - len(kept)} of 600 episodes ({(600 - len(kept)) * 20:,} steps) are left out"
        in report.notes[-1]
    )
    assert meta["notes"] == list(report.notes)
    with pytest.raises(ValueError, match=r"limit is 50,000 bytes, and the page .* alone takes"):
        run.to_html(tmp_path / "none.html", limit=50_000)
    assert not (tmp_path / "none.html").exists()


def test_episodes_are_chosen_by_expression_number_and_age(tmp_path: pathlib.Path) -> None:
    run = run_of(40, steps=3)

    def chosen(**choice: Any) -> list[int]:
        report = run.to_html(tmp_path / "r.html", **choice)
        return sorted(set(steps_in(blocks_of(report))["episode"].to_pylist()))

    assert chosen(where="outcome == 'Failed' and episode > 10") == [15, 20, 25, 30, 35]
    assert chosen(episodes=3) == [37, 38, 39]
    assert chosen(episodes=[2, 5, 99]) == [2, 5]
    assert chosen(episodes=2, where="total_reward < 0") == [30, 35]
    report = run.to_html(tmp_path / "r.html", where="episode < 2")
    assert "Chosen: where episode < 2: 2 of 40 episodes." in report.notes
    with pytest.raises(QueryError, match="did you mean 'outcome'"):
        run.to_html(tmp_path / "r.html", where="outcom == 'Failed'")
    with pytest.raises(ltw.NoDataError, match="none of its 40 episodes is chosen"):
        run.to_html(tmp_path / "r.html", where="episode > 99")
    with pytest.raises(ValueError, match="episodes is 0"):
        run.to_html(tmp_path / "r.html", episodes=0)


@pytest.mark.parametrize("static", [False, True])
def test_text_of_the_run_stays_in_its_place(tmp_path: pathlib.Path, static: bool) -> None:  # noqa: FBT001 - a case
    run = run_of(4, steps=2, name=EVIL, agent_id=EVIL, policy_label=EVIL, note=EVIL)
    html = run.to_html(tmp_path / "r.html", static=static).path.read_text(encoding="utf-8")
    assert "alert(1)</script>" not in html
    assert "<!--" not in html
    scripts = re.findall(r"<script([^>]*)>", html)
    assert ([] if static else [' type="module"']) == [found for found in scripts if "text/plain" not in found]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy
    assert policy[1].startswith("default-src 'none'")
    assert "http" not in policy[1]


def test_a_report_of_a_run_without_anything_is_a_report(tmp_path: pathlib.Path) -> None:
    run = ltw.Run(RunFeed("nothing", Link("recording")))
    report = run.to_html(tmp_path / "r.html")
    assert (report.episodes, report.steps) == (0, 0)
    assert json.loads(unpacked(blocks_of(report)["meta"]))["blocks"] == []
    assert run.to_html(tmp_path / "s.html", static=True).episodes == 0


def test_a_page_without_script_has_the_totals_and_keeps_to_its_limit(tmp_path: pathlib.Path) -> None:
    run = run_of(2_000, steps=1)
    report = run.to_html(tmp_path / "r.html", static=True, limit=100_000)
    html = report.path.read_text(encoding="utf-8")
    assert report.size <= 100_000
    assert "<script" not in html
    assert ">2,000<" in html
    assert f"the newest {report.episodes:,} of 2,000 episodes" in html
    assert run.to_html(tmp_path / "all.html", static=True).episodes == 2_000


def test_two_agents_with_the_same_numbers_keep_their_own_steps(tmp_path: pathlib.Path) -> None:
    feed = RunFeed("two", Link("recording"))
    events = [
        {"episode": e, "step_index": i, "agent_id": a, "reward": float(len(a))}
        for e in (0, 1)
        for i in range(3)
        for a in ("left", "right")
    ]
    feed.frames.append_steps(normalize.steps_from_events(events, run_id="two").batch)
    feed.finish()
    report = ltw.Run(feed).to_html(tmp_path / "r.html", agent="right")
    blocks = blocks_of(report)
    assert set(steps_in(blocks)["agent_id"].to_pylist()) == {"right"}
    assert json.loads(unpacked(blocks["meta"]))["counts"] == [3, 3]


def test_the_same_run_gives_the_same_blocks(tmp_path: pathlib.Path) -> None:
    run = run_of(5)
    first, second = (blocks_of(run.to_html(tmp_path / f"{i}.html")) for i in range(2))
    assert {n: t for n, t in first.items() if n != "meta"} == {n: t for n, t in second.items() if n != "meta"}
    assert json.loads(unpacked(first["meta"]))["version"] == page.VERSION
