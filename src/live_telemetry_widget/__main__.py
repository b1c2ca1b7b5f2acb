"""``python -m live_telemetry_widget`` is the command ``live-telemetry``."""

import sys

from live_telemetry_widget.cli import main

if __name__ == "__main__":
    sys.exit(main())
