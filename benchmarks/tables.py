"""How the benchmarks print: a table each, with what is measured, and whether a ratio is within its limit."""

from __future__ import annotations

import argparse
import os
import pathlib
from typing import Final, NoReturn

#: Digits behind the point of a number: none, one or three.
_LARGE: Final = 1000
_MIDDLING: Final = 10


def parse(text: str | None) -> argparse.ArgumentParser:
    """Return a parser that knows ``--quick``: less of everything, to see that it works."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    quick = os.environ.get("QUICK", "") not in {"", "0"}
    parser.add_argument("--quick", action="store_true", default=quick, help="a small measurement; also QUICK=1")
    return parser


def fail(why: str) -> NoReturn:
    """End: what is measured does not do what it should."""
    raise SystemExit(why)


def load() -> float:
    """Return how many processes wanted a processor in the last minute: others' work makes a measurement worse."""
    return os.getloadavg()[0]


def resident() -> int:
    """Return the bytes of memory of this process that no file backs (Linux): what cannot be had back without loss."""
    for line in pathlib.Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    fail("this kernel does not tell RssAnon")


class Table:
    """Lines of a name and a number.

    Parameters
    ----------
    title
        What is measured.
    unit
        Of the numbers.
    """

    def __init__(self, title: str, unit: str) -> None:
        self._lines = [f"{title + ', ' + unit:<62}"]

    def row(self, name: str, value: float, note: str = "") -> None:
        """Add a number."""
        digits = 0 if abs(value) >= _LARGE else 1 if abs(value) >= _MIDDLING else 3
        self._lines.append(f"  {name:<56}{value:>12,.{digits}f}  {note}".rstrip())

    def note(self, text: str) -> None:
        """Add a line of text."""
        self._lines.append(f"  {text}")

    def ratio(self, name: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """Add what a limit is for, and whether it is kept."""
        fine = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        bound = f"at least {at_least:g}" if at_least is not None else f"at most {at_most:g}"
        self.row(name, value, f"{'ok' if fine else 'OVER THE LIMIT'} ({bound})")

    def print(self) -> None:
        """Print all of it, with how busy the machine was."""
        print("\n".join(self._lines))
        print(f"  load of the machine: {load():.1f} on {os.cpu_count()} processors")
