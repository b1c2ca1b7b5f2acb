"""How the daemon says no: one exception with a gRPC status, and its way into a call."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from live_telemetry_widget import _names
from live_telemetry_widget.errors import ClosedError
from live_telemetry_widget.store import OutOfOrderError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


#: What gRPC hands a handler; its own types are not complete enough to say more.
Context: TypeAlias = Any


class RefusalError(Exception):
    """An answer other than yes.

    Attributes
    ----------
    code : grpc.StatusCode
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def invalid(message: str) -> RefusalError:
    """Return what is answered to a request that can never work."""
    return RefusalError(grpc.StatusCode.INVALID_ARGUMENT, message)


def precondition(message: str) -> RefusalError:
    """Return what is answered to a request that does not work as things stand."""
    return RefusalError(grpc.StatusCode.FAILED_PRECONDITION, message)


@contextlib.asynccontextmanager
async def answering(context: Context) -> AsyncIterator[None]:
    """Turn what a handler raises into the call's status."""
    try:
        yield
    except RefusalError as refusal:
        await context.abort(refusal.code, str(refusal))
    except ClosedError:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the daemon is shutting down")
    except OutOfOrderError as error:
        await context.abort(grpc.StatusCode.ABORTED, f"{error}; nothing after the last acknowledgement is kept")
    except sqlite3.Error as error:
        code = grpc.StatusCode.RESOURCE_EXHAUSTED if _is_full(error) else grpc.StatusCode.INTERNAL
        await context.abort(code, f"could not be committed: {error}; nothing after the last acknowledgement is kept")


def _is_full(error: sqlite3.Error) -> bool:
    """Whether there is no room, which passes; a full disk also shows as a write, or the shared index, that fails."""
    name = getattr(error, "sqlite_errorname", None) or ""
    return name in {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"}


def session_token(context: Context) -> str:
    """Return the session token that a call carries; empty when it carries none."""
    return metadata_of(context, _names.SESSION_TOKEN)


def metadata_of(context: Context, name: str) -> str:
    """Return a call's metadata of that name; empty when it has none."""
    for key, value in context.invocation_metadata() or ():
        if key == name:
            return str(value)
    return ""
