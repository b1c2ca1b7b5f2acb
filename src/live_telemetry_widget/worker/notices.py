"""What a training program is told of its emitter on its own standard error: at the beginning, and at the end."""

from __future__ import annotations

import logging
import shlex
from typing import TYPE_CHECKING, Final

from live_telemetry_widget.worker.spool import default_directory

if TYPE_CHECKING:
    from live_telemetry_widget.worker.courier import Courier
    from live_telemetry_widget.worker.helper import Helper
    from live_telemetry_widget.worker.options import Options

_LOG: Final = logging.getLogger(__name__)


def away(options: Options, run_id: str) -> None:
    """Tell that there is no daemon: somebody may have mistyped its address."""
    _LOG.warning(
        "live-telemetry: no trainer daemon has answered at %s; steps of run %s are kept in %s and delivered when it answers",
        options.address,
        run_id,
        f"the spool {options.spool_dir}" if options.spool_dir else "memory",
    )


def what_is_left(courier: Courier | Helper) -> None:
    """Tell what the daemon has not confirmed, where it is, and who delivers it."""
    left = courier.waiting()
    if courier.delivered or not left:
        return
    options, failure = courier.options, courier.failure
    place = options.spool_dir
    why = courier.stats().why
    if place is None:
        how = "they were in memory only, and are lost"
    else:
        where = "" if place == default_directory() else f" --spool-dir {shlex.quote(str(place))}"
        how = f"they wait in {place}; this delivers them: live-telemetry deliver --daemon {options.address}{where}"
    said = "; ".join(dict.fromkeys(text for text in (failure, why) if text and text not in _USUAL))
    _LOG.warning(
        "live-telemetry: %d rows (steps and episodes) of run %s are not confirmed by the daemon at %s%s; %s",
        left,
        courier.run_id,
        options.address,
        f" ({said})" if said else "",
        how,
    )


#: Why a gate is shut when an emitter ends as it should.
_USUAL: Final = frozenset({"the emitter was closed", "the process ends"})
