"""A run as it stands in memory, as files: whatever :mod:`~live_telemetry_widget.exports` writes, a Hugging Face dataset, a Minari dataset.

Examples
--------
>>> import pathlib, tempfile
>>> from live_telemetry_widget import frames, normalize
>>> from live_telemetry_widget.store import RunRow
>>> run = frames.RunFrames("r")
>>> _ = run.append_steps(normalize.steps_from_events([{"type": "step", "episode": 0, "step_index": 0, "reward": 1.0}]).batch)
>>> with tempfile.TemporaryDirectory() as folder:
...     written = export(run, RunRow("r", 7), pathlib.Path(folder, "run.csv"))
...     [path.name for path in written.paths], written.steps
(['run.csv', 'run.episodes.csv'], 1)
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Final

import numpy as np

from live_telemetry_widget import exports, minari_files
from live_telemetry_widget.errors import RecordingError
from live_telemetry_widget.exports import FORMATS, Format, Written

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa

    from live_telemetry_widget.frames import RunFrames
    from live_telemetry_widget.store import Kind, RunRow

#: Rows of a batch out of memory.
_ROWS: Final = 65_536
#: How many rows there are, as Hugging Face has words for it.
_SIZES: Final = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))
_LARGEST: Final = "n>10M"


class InMemory:
    """The rows of a run in memory, as an export reads them: once each, in order of arrival, up to the moment that this was made."""

    def __init__(self, frames: RunFrames) -> None:
        self._frames = frames
        self._counts: dict[Kind, int] = {"steps": frames.step_count, "episodes": frames.record_count}

    def last_seq(self, run_id: str, kind: Kind) -> int:  # noqa: ARG002 - there is one run
        """Return how many rows there are."""
        return self._counts[kind]

    def schemas(self, run_id: str, kind: Kind, last_seq: int) -> list[pa.Schema]:
        """Return the different columns that batches have."""
        found: list[pa.Schema] = []
        for batch in self.read(run_id, kind, limit=last_seq):
            if not any(batch.schema.equals(held, check_metadata=True) for held in found):
                found.append(batch.schema)
        return found

    def read(self, run_id: str, kind: Kind, since_seq: int = 0, limit: int | None = None) -> Iterator[pa.RecordBatch]:  # noqa: ARG002 - as above
        """Yield the rows after the first `since_seq`, at most `limit` of them."""
        end = self._counts[kind] if limit is None else min(self._counts[kind], since_seq + limit)
        for first in range(since_seq, end, _ROWS):
            count = min(_ROWS, end - first)
            if kind == "steps":
                yield from self._frames.rows(first, count).to_batches()
            else:
                yield from self._frames.records(np.arange(first, first + count)).to_batches()


def format_of(path: pathlib.Path, form: str | None) -> Format:
    """Return the format that is said, or that the path's end means; raises RecordingError for what is none."""
    if form is not None:
        if form not in FORMATS:
            msg = f"format is {form!r}; give one of {', '.join(map(repr, FORMATS))}"
            raise RecordingError(msg)
        return form
    endings = {f".{known}": known for known in FORMATS}
    if path.suffix not in endings:
        msg = f"{path} does not end in {', '.join(endings)}; give format=, one of {', '.join(map(repr, FORMATS))}"
        raise RecordingError(msg)
    return endings[path.suffix]


def export(
    frames: RunFrames,
    row: RunRow,
    path: pathlib.Path,
    form: str | None = None,
    about: Callable[[], Mapping[str, object]] = dict,
) -> Written:
    """Write a run as it stands.

    Parameters
    ----------
    row
        What is kept of it beside its rows.
    path
        The file of the steps; for ``"huggingface"`` and ``"minari"`` a directory that is made.
    about
        Returns ``game``, ``kwargs``, ``policy`` ... for those who read the dataset's card; asked only where there is one.

    Raises
    ------
    RecordingError
        It cannot be written there, or `form` is none.
    MissingPackageError
        Minari is not installed.
    """
    chosen = format_of(path, form)
    source = InMemory(frames)
    try:
        if chosen == "minari":
            return minari_files.write(frames, path, about())
        if chosen == "huggingface":
            return write_dataset(source, row, path, about())
        path.parent.mkdir(parents=True, exist_ok=True)
        return exports.export_run(source, row, path, chosen)
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise RecordingError(msg) from error


# -- Hugging Face ------------------------------------------------------------------------------------------------------


def write_dataset(
    source: exports.Rows,
    row: RunRow,
    folder: pathlib.Path,
    about: Mapping[str, object],
    progress: Callable[[int], object] = lambda _: None,
) -> Written:
    """Write a directory as Hugging Face's `datasets` loads it: Parquet files of steps and of episodes, and a card that names them."""
    if folder.exists() and any(folder.iterdir()):
        msg = f"{folder} is there and not empty; give another path"
        raise RecordingError(msg)
    # Beside its place until it is whole: files that an export has left which was killed would be taken for rows of the next.
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        written = exports.export_shards(source, row, part, progress)
        (part / "README.md").write_text(_card(row, written, about), encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    paths = [folder / path.relative_to(part) for path in (part / "README.md", *written.paths)]
    return written._replace(paths=paths)


def _card(row: RunRow, written: Written, about: Mapping[str, object]) -> str:
    size = next((words for most, words in _SIZES if written.steps < most), _LARGEST)
    # A JSON text is one of YAML's as well.
    title = json.dumps(f"Run {row.run_id}", ensure_ascii=False)
    told = [f"- {name}: `{value}`" for name, value in about.items() if value not in (None, "", {}, [])]
    return "\n".join(
        [
            "---",
            f"pretty_name: {title}",
            "tags:",
            "- reinforcement-learning",
            f"size_categories:\n- {size}",
            "configs:",
            "- config_name: steps",
            "  default: true",
            "  data_files: steps/*.parquet",
            "- config_name: episodes",
            "  data_files: episodes/*.parquet",
            "---",
            "",
            f"# Run {row.run_id}",
            "",
            f"{written.steps:,} steps and {written.episodes:,} records of episodes, written by live_telemetry_widget.",
            "",
            *told,
            "",
            "`steps` and `episodes` join on `worker_id, agent_id, episode`. `action`, `observation`, `render_payload` and `metadata` are JSON texts.",
            "",
        ]
    )
