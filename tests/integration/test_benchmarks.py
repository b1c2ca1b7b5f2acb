"""The benchmarks do what they measure: small forms of them, for function. No test looks at a speed."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    ("name", "arguments", "ratios"),
    [
        ("per_step", ["--steps", "1500", "--rounds", "1"], 1),
        ("batched", ["--steps", "2000", "--rounds", "1"], 4),
        ("memory", ["--steps", "20000"], 3),
    ],
)
def test_a_benchmark_runs_and_says_whether_its_limits_are_kept(name: str, arguments: list[str], ratios: int) -> None:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *arguments]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert said.returncode == 0, said.stderr
    judged = [
        line for line in said.stdout.splitlines() if line.endswith(")") and (" ok (" in line or " OVER THE " in line)
    ]
    assert len(judged) == ratios, said.stdout


def test_every_benchmark_is_run_by_make_bench() -> None:
    text = (BENCHMARKS.parent / "Makefile").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("BENCHMARKS :="))
    shared = {"tables", "steps"}
    for path in BENCHMARKS.glob("*.py"):
        assert path.stem in shared or path.stem in line.replace(",", " ").replace(")", " ").split()
