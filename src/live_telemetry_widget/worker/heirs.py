"""Delivers what processes left in a spool that ended before their daemon confirmed it: for the next emitter of the run, or for all runs at once."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import grpc
import pyarrow as pa

from live_telemetry_widget.client import TrainerClient
from live_telemetry_widget.errors import RunNotFoundError, TelemetryError
from live_telemetry_widget.proto import telemetry_pb2
from live_telemetry_widget.worker.link import Link
from live_telemetry_widget.worker.registration import Registration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from live_telemetry_widget.worker.spool import Estate

OUTCOMES: Final = {
    "completed": telemetry_pb2.OUTCOME_COMPLETED,
    "failed": telemetry_pb2.OUTCOME_FAILED,
    "cancelled": telemetry_pb2.OUTCOME_CANCELLED,
}
#: A daemon that answers so will not answer otherwise the next time.
FINAL: Final = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.ALREADY_EXISTS,
}
#: Seconds for a daemon that went away meanwhile to come back.
_PATIENCE: Final = 30.0


class HandedOver(NamedTuple):
    """How it went.

    Attributes
    ----------
    why
        Why it is still in the spool; empty when it is not.
    lost
        Rows that the daemon has refused.
    whole
        Whether all was read and sent.
    """

    why: str
    lost: int
    whole: bool


async def hand_over(estate: Estate, registration: Registration, delivered: collections.Counter[str]) -> HandedOver:
    """Deliver an estate and delete it; where that cannot be, leave it and return why.

    Parameters
    ----------
    estate
        Ours to delete.
    registration
        Its run, opened.
    delivered
        Rows by kind; added to.
    """
    link, why, whole = Link(registration, estate.producer), "", False
    try:
        for record in estate.records:
            await link.put(record.kind, record.first, record.rows, estate.read(record))
            delivered[record.kind] += record.rows
        await link.close()
        why, whole = link.failure if link.lost else "", True
    except (OSError, pa.ArrowInvalid) as error:
        why = str(error)
    finally:
        link.abandon()
    if why:
        estate.release()
    else:
        estate.delete()
    return HandedOver(why, link.lost, whole)


@dataclasses.dataclass(slots=True)
class Handed:
    """What became of what was left of a run.

    Attributes
    ----------
    run_id
        As the daemon has it.
    address
        The daemon's.
    steps, episodes
        Delivered rows.
    torn
        Files that ended within a record.
    end
        How the run was said to end; empty when it goes on, or had ended before.
    why
        Why something was left in the spool; empty when all was delivered.
    """

    run_id: str
    address: str
    steps: int = 0
    episodes: int = 0
    torn: int = 0
    end: str = ""
    why: str = ""


async def deliver(left: Iterable[Estate], address: str = "") -> list[Handed]:
    """Deliver estates, those of a run together, and tell the daemon how each run ended where that is known.

    Parameters
    ----------
    left
        As :func:`~live_telemetry_widget.worker.spool.estates` has them.
    address
        A daemon's; empty: to the one that each was meant for.
    """
    groups: dict[tuple[str, str], list[Estate]] = {}
    for estate in left:
        where = address or str(estate.header.get("address", ""))
        groups.setdefault((where, str(estate.header.get("run_id", ""))), []).append(estate)
    return [await _deliver_run(where, run_id, group) for (where, run_id), group in groups.items()]


async def _deliver_run(address: str, run_id: str, group: list[Estate]) -> Handed:
    handed = Handed(run_id, address, torn=sum(estate.torn for estate in group))
    delivered = collections.Counter[str]()
    config = group[-1].header.get("config")
    registration = Registration(
        address, run_id, "", config if isinstance(config, dict) else {"run_name": run_id}, worker_kind="emitter"
    )
    try:
        known = await _is_known(address, run_id)
        ended = await _open(registration)
        handed.run_id = registration.run_id
        while group:
            done = await asyncio.wait_for(hand_over(group[0], registration, delivered), _PATIENCE)
            end = group.pop(0).end
            handed.why = handed.why or done.why
            if not group and not ended and not handed.why:
                handed.end = await _finish(registration, end, known=known)
    except TelemetryError as error:
        handed.why = str(error)
    except grpc.aio.AioRpcError as error:
        handed.why = str(registration.translated(error))
    except TimeoutError:
        handed.why = f"the daemon at {address} went away, or confirmed nothing within {_PATIENCE:g} s"
    finally:
        for estate in group:
            estate.release()
        await registration.close()
    handed.steps, handed.episodes = delivered["steps"], delivered["episodes"]
    return handed


async def _is_known(address: str, run_id: str) -> bool:
    """Whether the daemon knows the run already; raises when it does not answer."""
    async with TrainerClient(address) as client:
        try:
            return await client.describe(run_id) is not None
        except RunNotFoundError:
            return False


async def _open(registration: Registration) -> bool:
    """Have the run at the daemon; whether it had ended there. A run that has ended takes no new worker, but what is left of an old one."""
    try:
        await registration.open()
    except grpc.aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.FAILED_PRECONDITION:
            raise
        return True
    return False


async def _finish(registration: Registration, end: dict[str, str] | None, *, known: bool) -> str:
    """Tell how a run ended; nothing where its process did not say so and the daemon, which knew it, looks after it."""
    if end is None and known:
        return ""
    said: dict[str, Any] = end or {"outcome": "failed", "reason": "its process ended without saying how"}
    outcome = str(said["outcome"]) if said["outcome"] in OUTCOMES else "failed"
    await registration.finish(OUTCOMES[outcome], str(said.get("reason", "")))
    return outcome


__all__ = ["FINAL", "OUTCOMES", "Handed", "HandedOver", "deliver", "hand_over"]
