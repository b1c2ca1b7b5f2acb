"""Bundles js/ into the package when a wheel or an editable install is built, so that a wheel needs no Node to be used."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

OUTPUT = ("widget.js", "widget.css")


class BundleHook(BuildHookInterface[Any]):
    """Run ``npm ci`` and ``npm run build`` in js/."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Build the bundle, always for a wheel (a stale one must not ship), only where it is missing for an editable install."""
        if self.target_name != "wheel":
            return
        js = Path(self.root) / "js"
        static = Path(self.root) / "src" / "live_telemetry_widget" / "view" / "static"
        built = all((static / name).exists() for name in OUTPUT)
        if version == "editable":
            return  # `make setup` builds it, and says so when it cannot
        npm = shutil.which("npm")
        if npm is None:
            if built:
                return  # an sdist built where there was Node carries the bundle
            msg = "building live_telemetry_widget from source needs Node 20 with npm, for the bundle of js/"
            raise RuntimeError(msg)
        for command in (["ci", "--no-audit", "--no-fund"], ["run", "build"]):
            subprocess.run([npm, *command], cwd=js, check=True)  # noqa: S603 - npm as found
