"""Where a daemon is asked to listen: whether that is an address at all, and whether it can be had."""

from __future__ import annotations

import errno
import socket
from typing import Final

from live_telemetry_widget.errors import TelemetryError

_PORTS: Final = 65_536
_WHY: Final = {
    errno.EADDRINUSE: "another program, perhaps another daemon, listens there; stop it, or take another port (0: a free one)",
    errno.EADDRNOTAVAIL: "this machine has no such address; 127.0.0.1 is the machine itself, 0.0.0.0 all its addresses",
    errno.EACCES: "this user may not take that port; take one from 1024",
}


def check_listen(listen: str) -> None:
    """Refuse what gRPC would misunderstand (a port beyond 65535 becomes another one), and say what is wrong with the rest.

    Parameters
    ----------
    listen
        ``"host:port"``, with a name, an IPv4 address, or an IPv6 one in brackets; or ``"unix:path"``.

    Raises
    ------
    TelemetryError
        Nobody can listen there; the message says why.
    """
    if listen.startswith("unix:"):
        return
    host, colon, port = listen.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (colon and bare and port.isascii() and port.isdigit() and (bare != host or ":" not in host)):
        msg = f"cannot listen on {listen!r}, which is not HOST:PORT; give one like 127.0.0.1:50055, or [::1]:50055"
        raise TelemetryError(msg)
    if int(port) >= _PORTS:
        msg = f"cannot listen on {listen}: port {port} is not within 0 to {_PORTS - 1} (0: a free one)"
        raise TelemetryError(msg)
    why = _why_not("" if bare == "*" else bare, int(port))
    if why:
        msg = f"cannot listen on {listen}: {why}"
        raise TelemetryError(msg)


def _why_not(host: str, port: int) -> str:
    """Return why nobody can listen there now; empty when one can. A try, because gRPC does not tell."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        return f"{host!r} is no host that is known here ({getattr(error, 'strerror', None) or error})"
    reasons = []
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
                probe.listen(1)
            except OSError as error:
                reasons.append(_WHY.get(error.errno or 0) or error.strerror or str(error))
            else:
                return ""
    return reasons[0]
