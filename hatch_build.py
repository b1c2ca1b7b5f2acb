"""Bundles js/ into the package when it is built, so that neither a wheel nor an sdist needs Node to be used."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

OUTPUT = ("widget.js", "widget.css", "report.js", "report.css")


class BundleHook(BuildHookInterface[Any]):
    """Run ``npm ci`` and ``npm run build`` in js/."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Build the bundle: always for what is shipped, for a stale one must not be; for an editable install if there is none."""
        root = Path(self.root)
        static = root / "src" / "live_telemetry_widget" / "view" / "static"
        built = all((static / name).is_file() for name in OUTPUT)
        if version == "editable" and built:
            return
        npm = shutil.which("npm")
        if npm:
            for command in (["ci", "--no-audit", "--no-fund", "--loglevel=error"], ["run", "--silent", "build"]):
                subprocess.run([npm, *command], cwd=root / "js", check=True)  # noqa: S603 - npm as found
        elif version == "editable":
            self.app.display_warning("there is no bundle, and no npm to make it: live views will say so (make setup)")
        elif not (built and (root / "PKG-INFO").is_file()):  # an sdist's own bundle is as old as its sources
            msg = "building live_telemetry_widget from a checkout needs Node 20 with npm, for the bundle of js/"
            raise RuntimeError(msg)
