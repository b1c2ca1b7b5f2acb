"""Whatever a worker prints, the proxy goes on: each line is an event, is passed on as it came, or is counted."""

from __future__ import annotations

import asyncio
import collections
import io
import json
import random
import sys
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from live_telemetry_widget.proto import trainer_pb2 as wire
from live_telemetry_widget.worker import outlet as module
from live_telemetry_widget.worker.lines import LineCutter
from tests.conftest import proxy_command
from tests.support.unruly import UnrulyDaemon

if TYPE_CHECKING:
    import pathlib
    from collections.abc import AsyncIterator

#: Longer lines are no events; 64 MiB in life, which would be slow to search.
LIMIT = 3_000


class Said(NamedTuple):
    """A line without its end, and what must become of it: a message, what is counted of it, or, with neither, passed on.

    Attributes
    ----------
    either
        It may be taken as a message or be passed on, but must not vanish.
    """

    data: bytes
    step: tuple[int, int] | None = None
    episode: int | None = None
    problem: str = ""
    note: bool = False
    either: bool = False


class Sink:
    """Stands in for another's daemon: takes what is published, step by step, and confirms it."""

    run_id = "r"
    address = "127.0.0.1:1"
    ours = False
    compression = "none"

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.episodes: list[int] = []

    async def publish_steps(self, messages: AsyncIterator[wire.RunStep], _: object) -> wire.PublishTelemetryResponse:
        """Take steps."""
        taken = [(m.episode_index, m.step_index) async for m in messages]
        self.steps += taken
        return wire.PublishTelemetryResponse(accepted=len(taken))

    async def publish_episodes(
        self, messages: AsyncIterator[wire.RunEpisode], _: object
    ) -> wire.PublishTelemetryResponse:
        """Take episodes."""
        taken = [m.episode_index async for m in messages]
        self.episodes += taken
        return wire.PublishTelemetryResponse(accepted=len(taken))

    async def open(self) -> None:
        """Know the run."""


# -- what workers may say ----------------------------------------------------------------------------------------------

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.just(int("9" * 400))  # larger than any column, and than any float
    | st.floats()  # NaN and Infinity too, which Python writes, and reads, though JSON has none
    | st.text(st.characters(exclude_categories=()), max_size=10)  # surrogates that stand alone too
    | st.just("\x00")
)
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=5)
_FURTHER = st.dictionaries(
    st.sampled_from(
        ["reward", "action", "observation", "agent_id", "worker_id", "run_id", "epsilon", "q", "ts_unix_ns", "render_payload", "metadata", "episode_seed", "payload_version", "seq_id", "extras_json", "terminated", "\x00"]
    ),
    _VALUES,
    max_size=5,
)  # fmt: skip
_SMALL = st.integers(0, 1_000)
_NO_INDEX = st.none() | st.integers(max_value=-1) | st.integers(min_value=2**63) | st.just(0.5) | st.text(max_size=3)
_ROOM = st.sampled_from([b"", b" ", b"\t", b"\r"])


@st.composite
def _steps(draw: st.DrawFn) -> Said:
    place = draw(st.tuples(_SMALL, _SMALL))
    event = {**draw(_FURTHER), "type": "step", "episode": place[0], "step_index": place[1]}
    return Said(draw(_ROOM) + _json(event) + draw(_ROOM), step=place)


@st.composite
def _episodes(draw: st.DrawFn) -> Said:
    number = draw(_SMALL)
    return Said(_json({**draw(_FURTHER), "type": "episode", "episode": number}), episode=number)


@st.composite
def _without_a_place(draw: st.DrawFn) -> Said:
    event = {**draw(_FURTHER), "type": "step", "episode": draw(_SMALL), "step_index": draw(_NO_INDEX)}
    return Said(_json(event), problem="bad_index")


@st.composite
def _cut(draw: st.DrawFn) -> Said:
    whole = _json({"type": "step", "episode": 0, "step_index": 0, "note": "ü" * draw(st.integers(0, 5))})
    return Said(whole[: draw(st.integers(1, len(whole) - 1))], problem="not_an_event")


@st.composite
def _deep(draw: st.DrawFn) -> Said:
    """Draw a step that is nested: how deep is too deep for Python depends on how deep it stands itself."""
    depth = draw(st.sampled_from([50, 300, 600, 900, 940, 960, 980, 990, 1_200]))
    head = b'{"type": "step", "episode": 2000, "step_index": %d, "deep": ' % depth + b"[" * depth
    if draw(st.booleans()):
        return Said(head + b"}", problem="not_an_event")
    return Said(head + b"]" * depth + b"}", step=(2_000, depth), either=True)


@st.composite
def _huge(draw: st.DrawFn) -> Said:
    filler = "x" * draw(st.integers(LIMIT + 1, 3 * LIMIT))
    as_event = {"type": "step", "episode": 0, "step_index": 0, "filler": filler}
    return Said(_json(as_event) if draw(st.booleans()) else filler.encode(), problem="line_too_long")


def _json(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()


def _as_bytes(data: bytes) -> Said:
    return Said(data, problem="not_an_event" if data.lstrip().startswith(b"{") else "")


_BYTES = st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"\r"))
#: What resembles an event and is none.
_RESEMBLING = [
    b"",
    b"\x00",
    b"\xff\xfe",
    b"{",
    b"{}",
    b"[]",
    b"null",
    b'{"type": 3}',
    b'{"type": ["step"]}',
    b'{"type": "stepp"}',
    b'{"type": "step", "episode": 0, "step_index": 0} 1',
    b'{"type": "step", "episode": 0, "step_index": 0, "x": "\xff"}',
    b'\xef\xbb\xbf{"type": "step", "episode": 0, "step_index": 0}',
    b'\x00{"type": "step", "episode": 0, "step_index": 0}',
    b'"{"type": "step", "episode": 0, "step_index": 0}',
    '{"type": "step", "episode": 0, "step_index": 0}'.encode("utf-16-be"),
]
_PRINTS = (
    _BYTES
    | _BYTES.map(lambda data: b"{" + data)
    | st.text(max_size=20).map(lambda text: text.encode(errors="surrogatepass").replace(b"\n", b""))
    | st.sampled_from(_RESEMBLING)
).map(_as_bytes)
_NOTES = st.sampled_from(
    [
        Said(_json({"type": "run_started", "config": {"a": 1}}), note=True),
        Said(_json({"type": "artifact", "path": "p"}), note=True),
        Said(_json({"type": "run_completed", "status": None}), note=True),
    ]
)
LINES = st.lists(
    st.one_of(_steps(), _steps(), _episodes(), _without_a_place(), _cut(), _deep(), _huge(), _PRINTS, _PRINTS, _NOTES),
    max_size=12,
)


# -- what becomes of it ------------------------------------------------------------------------------------------------


async def put_through(data: bytes) -> tuple[Sink, module.Outlet, bytes]:
    """Have the proxy read what a worker printed; return what was published, who did it, and what was passed on."""
    sink, passed = Sink(), io.BytesIO()
    outlet = module.Outlet(sink, "a", "w", passed)  # type: ignore[arg-type]
    outlet._cutter = LineCutter(LIMIT)
    stream = asyncio.StreamReader()
    stream.feed_data(data)
    stream.feed_eof()
    async with asyncio.timeout(30):
        await outlet.read(stream)
        await outlet.close()
    return sink, outlet, passed.getvalue()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(lines=LINES, ended=st.booleans(), piece=st.sampled_from([1, 7, 100, 1_000_000]))
def test_every_line_is_published_or_passed_on_or_counted(lines: list[Said], ended: bool, piece: int) -> None:  # noqa: FBT001 - drawn
    data = b"\n".join(said.data for said in lines) + (b"\n" if ended and lines else b"")
    with mock.patch.multiple(module, _READ=piece, _LITTLE=0):  # as the pipe happens to hand it over
        sink, outlet, passed = asyncio.run(put_through(data))

    counts: collections.Counter[str] = collections.Counter()
    steps: list[tuple[int, int]] = []
    episodes: list[int] = []
    left = b""  # what must be passed on, in order
    taken = iter([*sink.steps, None])
    following = next(taken)
    for i, said in enumerate(lines):
        last = i == len(lines) - 1
        ending = b"" if last and not ended else b"\n"
        too_long = len(said.data + ending) > LIMIT
        if said.step is not None and not too_long and (not said.either or following == said.step):
            steps.append(said.step)
            following = next(taken)
        elif said.episode is not None and not too_long:
            episodes.append(said.episode)
        elif (said.problem == "bad_index" or said.note) and not too_long:
            counts[said.problem] += said.problem != ""
        else:
            left += said.data + ending
            kind = "line_too_long" if too_long else said.problem
            if said.either and not too_long:
                kind = "not_an_event"
            if kind == "not_an_event" and last and not ended:
                kind = "torn_line"
            counts[kind] += kind != ""
    assert passed == left
    assert sink.steps == steps
    assert sink.episodes == episodes
    assert outlet.delivery.lost == 0
    kinds = ("bad_index", "not_an_event", "torn_line", "line_too_long")
    assert {kind: outlet.problems[kind] for kind in kinds} == {kind: counts[kind] for kind in kinds}


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300), piece=st.sampled_from([1, 7, 1_000_000]))
def test_bytes_that_are_no_lines_come_through_as_they_are(data: bytes, piece: int) -> None:
    with mock.patch.multiple(module, _READ=piece, _LITTLE=0):
        sink, _, passed = asyncio.run(put_through(data))
    assert passed == data
    assert not sink.steps + sink.episodes  # type: ignore[operator]


def nonsense(seed: int) -> tuple[bytes, int]:
    """Return what a worker prints that is not well, and how many sound steps are in it."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    out: list[bytes] = []
    steps = 0
    for _ in range(400):
        kind = rng.randrange(7)
        if kind == 0:
            out.append(rng.randbytes(rng.randrange(200)).replace(b"\n", b"?") + b"\n")
        elif kind == 1:
            out.append(b"{" + rng.randbytes(20).replace(b"\n", b"?") + b"\n")
        elif kind == 2:
            out.append(b'{"type": "step", "episode": 0, "step_index": -1}\n')
        elif kind == 3:
            out.append(b'{"type": "step", "x": ' + b"[" * 100_000 + b"\n")
        else:
            event = {"type": "step", "episode": 0, "step_index": steps, "reward": rng.choice([1.0, float("nan"), "no"])}
            out.append(_json(event) + b"\n")
            steps += 1
    return b"".join(out), steps


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("code", [0, 7])
async def test_the_exit_code_is_the_workers_whatever_it_printed(
    tmp_path: pathlib.Path, generation: int, code: int
) -> None:
    data, steps = nonsense(10 * generation + code)
    (tmp_path / "said").write_bytes(data)
    worker = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read()); sys.exit(int(sys.argv[2]))"
    async with UnrulyDaemon(generation) as daemon:
        run = daemon.add_run("r")
        command = proxy_command(
            daemon.address, sys.executable, "-c", worker, str(tmp_path / "said"), str(code), run_id="r"
        )
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
        try:
            async with asyncio.timeout(60):
                passed, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == code, errors.decode(errors="replace")
        assert [step.step_index for step in run.steps] == list(range(steps))
        lines = (
            data.splitlines(keepends=True) if b"\r" not in data else [line + b"\n" for line in data.split(b"\n")[:-1]]
        )
        assert passed == b"".join(line for line in lines if not line.startswith(b'{"type": "step", "episode"'))
        for kind in (b"bad_index", b"bad_number", b"not_an_event", b"not_finite"):
            assert kind in errors
