"""What is heavy is taken, handed over and encoded in portions: nothing grows without bound, and nothing else waits for it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from live_telemetry_widget.worker import courier, many, portions
from live_telemetry_widget.worker.emitter import Emitter
from live_telemetry_widget.worker.portions import size_of
from tests.conftest import wait_for
from tests.integration.test_emitter import recorded

if TYPE_CHECKING:
    import pathlib

    import live_telemetry_widget as ltw

KILO = 1024


def pixels(kilobytes: int) -> np.ndarray[Any, Any]:
    return np.zeros(kilobytes * KILO, np.uint8)


def test_batches_are_sent_while_others_are_encoded(
    daemon: ltw.Server, spool: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So are heartbeats, and acknowledgements are heard: a portion is no larger than it may be, and all have their turn behind it."""
    for module in (portions, many):
        monkeypatch.setattr(module, "PORTION", 100 * KILO)
    did: list[tuple[str, int]] = []
    encode, put = courier.Encoder.encode, courier.Link.put

    def encoding(self: Any, rows: list[Any], **options: Any) -> Any:
        if rows:
            did.append(("encode", sum(map(size_of, rows))))
        return encode(self, rows, **options)

    async def putting(self: Any, *record: Any) -> None:
        did.append(("put", 0))
        await put(self, *record)

    with Emitter(daemon.address, spool_dir=spool, process=False) as emitter:
        emitter.step(-1, 0.0, pixels(10))
        assert emitter.flush()
        monkeypatch.setattr(courier.Encoder, "encode", encoding)
        monkeypatch.setattr(courier.Link, "put", putting)
        told = [row for t in range(200) for row in (time.time_ns(), t, 1.0, pixels(10).tobytes(), False, False, 0)]
        emitter.put(tuple(told))
        # Seldom, among small ones, and of another kind.
        emitter.steps(action=np.arange(300), observation=np.zeros((300, 10 * KILO), np.uint8))
        assert emitter.flush(60)
    kinds = [what for what, _ in did]
    assert kinds.index("put") < len(kinds) - 1 - kinds[::-1].index("encode")
    # A row may come to what is left of a portion; its other values weigh next to nothing.
    assert max(size for _, size in did) < 115 * KILO
    run = recorded(daemon.address, emitter.run_id)
    assert run.steps["action"].astype(int).tolist() == [-1, *range(200), *range(300)]


@pytest.mark.skipif(sys.platform == "win32", reason="no helper there")
def test_a_list_that_nobody_takes_is_bounded_in_bytes(
    daemon: ltw.Server, spool: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The helper stands still: after some large rows the training thread waits, as it does after many small ones."""
    monkeypatch.setattr(portions, "MOST_BYTES", 4 * 1024 * KILO)
    with Emitter(daemon.address, spool_dir=spool) as emitter:
        pid = emitter._courier.pid  # type: ignore[union-attr]
        os.kill(pid, signal.SIGSTOP)
        enough, made = threading.Event(), []

        def train() -> None:
            # 300 MB are far beyond the bound, however late the emitter's thread looks.
            while not enough.is_set() and len(made) < 3_000:
                made.append(len(made))
                emitter.step(made[-1], 1.0, pixels(100))
                time.sleep(0.001)  # a step of an environment with such observations

        training = threading.Thread(target=train)
        training.start()
        try:
            wait_for(lambda: emitter.gate.shut or not training.is_alive(), "the training thread waits")
            assert training.is_alive()
            assert len(made) < 3_000
        finally:
            enough.set()
            os.kill(pid, signal.SIGCONT)
            training.join(60)
        assert not training.is_alive()
        assert emitter.flush(60)
    assert recorded(daemon.address, emitter.run_id).steps["action"].astype(int).tolist() == made
