"""From ``emitter.step`` to a row that can be asked for: what a person waits at 10,000 steps a second.

    python benchmarks/latency.py [--seconds 10]

A process of its own emits at that rate and says in each step when that was (nanoseconds of the clock that all processes share); a daemon with a durable
log takes and sends; here, a listener of the frames looks at what is new whenever something is. So each step has a time of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from typing import Final

import numpy as np
from tables import Table, fail, parse

import live_telemetry_widget as ltw
from live_telemetry_widget.hub import TelemetryAsyncHub

RATE: Final = 10_000
MEDIAN_MS: Final = 30.0
NEARLY_ALL_MS: Final = 100.0
WAIT: Final = 60.0
#: Seconds at the start that are not counted: links are made.
WARM: Final = 1.0


def emit(address: str, seconds: float) -> None:
    """Emit steps at the rate."""
    with ltw.Emitter(address, "latency", spool_dir=False) as emitter:
        began = time.monotonic()
        for number in range(int(seconds * RATE)):
            while time.monotonic() - began < number / RATE:
                time.sleep(0.000_5)
            emitter.step(action=number % 2, reward=1.0, terminated=number % 50 == 0, sent=time.monotonic_ns())
        emitter.flush()


def main() -> None:
    """Print the table."""
    parser = parse(__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--emit", metavar="ADDRESS", help="what the other process is told")
    options = parser.parse_args()
    seconds = 2.0 if options.quick else options.seconds
    if options.emit:
        emit(options.emit, options.seconds)
        return
    late: list[np.ndarray] = []
    steps = int(seconds * RATE)
    with (
        tempfile.TemporaryDirectory() as folder,
        ltw.serve(folder) as server,
        TelemetryAsyncHub(server.address) as hub,
    ):
        feed = hub.subscribe_run("latency")
        frames, seen = feed.frames, 0

        def look() -> None:
            nonlocal seen
            now = time.monotonic_ns()
            count = frames.step_count
            if count > seen:
                late.append(now - frames.rows(seen, count - seen).column("sent").to_numpy())
                seen = count

        frames.listen(look)
        command = [sys.executable, __file__, "--emit", server.address, "--seconds", str(seconds)]
        with subprocess.Popen(command) as process:  # noqa: S603 - this file
            began = time.monotonic()
            if not feed.wait_until(lambda: feed.frames.step_count >= steps, WAIT + seconds):
                process.terminate()
                fail(f"{feed.frames.step_count} of {steps} steps came")
            spent = time.monotonic() - began
    times = np.concatenate(late)[int(WARM * RATE) :] / 1e6
    table = Table(f"from emit to frame, {RATE:,} steps/s", "ms")
    table.ratio("median", float(np.median(times)), at_most=MEDIAN_MS)
    table.ratio("99th percentile", float(np.percentile(times, 99)), at_most=NEARLY_ALL_MS)
    table.row("longest", float(times.max()))
    table.note(f"{steps:,} steps in {spent:.1f} s, the start of the other process included")
    table.print()


if __name__ == "__main__":
    main()
