"""Regenerate the protobuf code from ``proto/*.proto``; ``--check`` fails when what is committed differs.

The code is committed so that a checkout and a wheel need no protobuf compiler.
"""

from __future__ import annotations

import argparse
import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src"
PROTO = Path("live_telemetry_widget/proto")


def generate(target: Path) -> None:
    """Write the generated modules below `target`."""
    files = [str(PROTO / path.name) for path in sorted((SOURCES / PROTO).glob("*.proto"))]
    out = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run(  # noqa: S603 - our own interpreter and our own files
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{SOURCES}", *out, *files], check=True, cwd=SOURCES
    )


def main() -> int:
    """Generate in place, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if not parser.parse_args().check:
        generate(SOURCES)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = sorted((Path(scratch) / PROTO).glob("*_pb2*"))
        stale = [path.name for path in fresh if not filecmp.cmp(path, SOURCES / PROTO / path.name, shallow=False)]
    if stale:
        sys.stderr.write(f"stale generated code: {', '.join(stale)}; run: python scripts/gen_proto.py\n")
    return 1 if stale or not fresh else 0


if __name__ == "__main__":
    raise SystemExit(main())
