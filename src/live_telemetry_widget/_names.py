"""Names on which two processes must agree: environment variables, gRPC metadata, addresses."""

from __future__ import annotations

from typing import Final

#: In the worker's environment: the id of its run.
RUN_ID: Final = "LTW_RUN_ID"
#: In the worker's environment: ``stdin`` when control lines come on its standard input.
CONTROL: Final = "LTW_CONTROL"
#: In the environment of a dispatched proxy and all that it starts: by this the daemon knows what belongs to a run.
MARK: Final = "LTW_DISPATCH_MARK"
#: In the environment of a dispatched proxy: a JSON object of what its worker, and not the proxy itself, is to find there.
WORKER_ENVIRONMENT: Final = "LTW_WORKER_ENVIRONMENT"
#: gRPC metadata of publishers and of a proxy's ControlStream: what RegisterWorker answered.
SESSION_TOKEN: Final = "session-token"  # noqa: S105 - the name of one
#: gRPC metadata of publishers that number their messages: a name unlike any other's, and the number of the stream's first message.
PRODUCER: Final = "x-ltw-producer"
FIRST: Final = "x-ltw-first"

#: Where a daemon listens, and is looked for, unless told otherwise.
DEFAULT_ADDRESS: Final = "127.0.0.1:50055"
_PORTS: Final = 65_536


def check_address(address: object) -> str:
    """Return a daemon's address, ``"host:port"``.

    Raises
    ------
    ValueError
        It is not that.
    """
    text = str(address)
    host, colon, port = text.rpartition(":")
    if not (host and "/" not in host and colon and port.isdigit() and 0 < int(port) < _PORTS):
        msg = f"address is {address!r}; give it as 'host:port', like {DEFAULT_ADDRESS!r}"
        raise ValueError(msg)
    return text
