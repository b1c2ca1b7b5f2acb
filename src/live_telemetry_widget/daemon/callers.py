"""Who calls: whether a caller is this daemon's own user on this machine, and so may have commands run.

The wire in use has no passwords, and on a shared machine every user reaches the loopback address. But the kernel knows whose socket
the other end of a local connection is, and on Linux it tells.
"""

from __future__ import annotations

import ipaddress
import os
import pathlib
import sys
import urllib.parse
from typing import Final

_TABLES: Final = (pathlib.Path("/proc/net/tcp"), pathlib.Path("/proc/net/tcp6"))
#: Columns of these tables.
_LOCAL: Final = 1
_REMOTE: Final = 2
_STATE: Final = 3
_UID: Final = 7
_ESTABLISHED: Final = "01"

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def why_not_same_user(peer: str, port: int) -> str:
    """Return why a caller is not known to be our own user; an empty text when it is.

    Parameters
    ----------
    peer
        As gRPC tells it: ``ipv4:127.0.0.1:50000``, ``ipv6:%5B::1%5D:50000``, ``unix:...``.
    port
        On which it has called.
    """
    scheme, _, rest = urllib.parse.unquote(peer).partition(":")
    if scheme == "unix":
        return ""  # who may open the socket's file is what its permissions say
    host, _, number = rest.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        caller = int(number)
    except ValueError:
        return f"it is not clear where {peer!r} is"
    return _why_not_ours(getattr(address, "ipv4_mapped", None) or address, caller, port)


def _why_not_ours(address: _Address, caller: int, port: int) -> str:
    if not address.is_loopback:
        return f"the call comes from {address}, not from this machine"
    if not _TABLES[0].exists():
        return ""  # such a system does not tell; what is known is that the caller is on this machine
    owners = socket_owners(address, caller, port)
    if not owners:
        return f"whose connection {address} port {caller} is cannot be found out"
    if owners != {os.geteuid()}:
        return f"the caller is user {', '.join(map(str, owners))} of this machine, the daemon's is {os.geteuid()}"
    return ""


def socket_owners(address: _Address, port: int, remote_port: int) -> set[int]:
    """Return the user ids of the connected sockets with this address and port at their own end; more than one is not clear."""
    packed = {_hexadecimal(address.packed)}
    if address.version == 4:  # noqa: PLR2004 - IPv4, which a socket of both kinds shows like this
        packed.add(_hexadecimal(bytes(10) + b"\xff\xff" + address.packed))
    own = {f"{text}:{port:04X}" for text in packed}
    owners: set[int] = set()
    for table in _TABLES:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for columns in map(str.split, lines):
            # One that is closing belongs to nobody any more, and is shown as root's.
            ends = columns[_LOCAL] in own and columns[_REMOTE].endswith(f":{remote_port:04X}")
            if ends and columns[_STATE] == _ESTABLISHED:
                owners.add(int(columns[_UID]))
    return owners


def _hexadecimal(packed: bytes) -> str:
    """Return an address as the kernel prints it: 32-bit words in the machine's own byte order.

    >>> import sys
    >>> _hexadecimal(bytes([127, 0, 0, 1])) == ("0100007F" if sys.byteorder == "little" else "7F000001")
    True
    """
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
