"""What a run lacks: steps that later ones have overtaken, and episodes jumped over; counted as rows come, listed when asked for.

Used by :mod:`~live_telemetry_widget.frames` only.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final, NamedTuple

from live_telemetry_widget._episode import EpisodeNumbers
from live_telemetry_widget.schema import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from live_telemetry_widget._episode import Episode

#: So many gaps of each kind are listed; their number is told of all.
MAX_GAPS: Final = 10_000

_Stream = tuple[str, str]


class Gap(NamedTuple):
    """Steps that are missing: `steps` from `first_step` of `episode`; or, with `steps` 0, all of episodes `episode` to `last_episode`."""

    worker_id: str
    agent_id: str
    episode: int
    last_episode: int
    first_step: int
    steps: int


class Gaps:
    """Keeps count of what is missing.

    Parameters
    ----------
    names
        The workers' names seen with each agent; read, never written.
    episode_of
        Returns an episode by its ordinal.

    Attributes
    ----------
    settled : bool
        Whether the run has sent everything: what is missing at an end is then missing too.
    """

    def __init__(self, names: Mapping[str, set[str]], episode_of: Callable[[int], Episode]) -> None:
        self.settled = False
        self._names = names
        self._episode_of = episode_of
        # How many steps each episode (by ordinal) lacks, those that changed last at the end; and all together.
        self._missing: dict[int, int] = {}
        self._total = 0
        # The highest episode number with steps of each (worker, agent): what lower ones lack at their ends is missing, not under way.
        self._newest: dict[_Stream, int] = {}
        # Of each (worker, agent), the episodes (by ordinal) whose ends may still be under way.
        self._under_way: dict[_Stream, dict[int, Episode]] = {}
        # The same as heaps of (number, ordinal), in which some may be that are not under way any more: where records come before the steps,
        # there are thousands.
        self._by_number: dict[_Stream, list[tuple[int, int]]] = {}
        # By worker and agent, and by agent alone (worker None).
        self._numbers: dict[tuple[str | None, str], EpisodeNumbers] = {}
        self._listed: list[Gap] | None = None

    def add_number(self, worker: str, agent: str, number: int) -> None:
        """Note a new episode."""
        for key in ((worker, agent), (None, agent)):
            numbers = self._numbers.get(key)
            if numbers is None:
                numbers = self._numbers[key] = EpisodeNumbers()
            numbers.add(number)
        self._listed = None

    def look_at(self, episode: Episode) -> None:
        """Look at an episode that has changed."""
        stream = (episode.worker_id, episode.agent_id)
        newest = self._newest.get(stream, -1)
        under_way = self._under_way.get(stream)
        if episode.count and episode.number > newest:
            self._newest[stream] = episode.number
            if under_way:
                self._pass(stream, under_way, episode.number)
        if episode.complete:
            if under_way:
                under_way.pop(episode.ordinal, None)
            if episode.ordinal not in self._missing:
                return  # nothing is missing, and nothing was
        elif episode.number >= newest:
            if under_way is None:
                under_way = self._under_way[stream] = {}
            if episode.ordinal not in under_way:
                under_way[episode.ordinal] = episode
                heapq.heappush(self._by_number.setdefault(stream, []), (episode.number, episode.ordinal))
        self._weigh(episode)

    def _pass(self, stream: _Stream, under_way: dict[int, Episode], number: int) -> None:
        """Note that steps of an episode have come: what lower ones lack is not under way any more."""
        behind = self._by_number[stream]
        while behind and behind[0][0] < number:
            episode = under_way.pop(heapq.heappop(behind)[1], None)
            if episode is not None:
                self._weigh(episode)

    def forget_stream(self, episode: Episode) -> None:
        """Note that an episode is about to be another worker's."""
        self._leave((episode.worker_id, episode.agent_id), episode)
        self._listed = None

    def settle(self) -> None:
        """Note that the run has sent everything."""
        self.settled = True
        under_way = [episode for episodes in self._under_way.values() for episode in episodes.values()]
        self._under_way.clear()
        self._by_number.clear()
        for episode in under_way:
            self._weigh(episode)

    def _leave(self, stream: _Stream, episode: Episode) -> None:
        self._under_way.get(stream, {}).pop(episode.ordinal, None)

    def _end(self, episode: Episode) -> int:
        """Return up to which step something that is not here is missing."""
        if self.settled or self._newest.get((episode.worker_id, episode.agent_id), -1) > episode.number:
            return episode.length
        return episode.next_step

    def _weigh(self, episode: Episode) -> None:
        missing = self._end(episode) - episode.count
        held = self._missing.pop(episode.ordinal, 0)
        self._total += missing - held
        if missing:
            self._missing[episode.ordinal] = missing
        if missing or held:
            self._listed = None

    def _holes(self) -> Iterator[tuple[str, str, EpisodeNumbers]]:
        for (worker, agent), numbers in self._numbers.items():
            names = self._names.get(agent, set())
            # Of one worker's episodes some may have come without its name; of several workers' nobody knows whose such are.
            if numbers.holes and (worker is None) == (len(names) <= 1) and worker != "":
                yield worker if worker is not None else next(iter(names), ""), agent, numbers

    def listed(self) -> list[Gap]:
        """Return what is missing, at most :data:`MAX_GAPS` of steps and as many of episodes."""
        if self._listed is None:
            found: list[Gap] = []
            for ordinal in self._missing:
                if len(found) >= MAX_GAPS:
                    break
                found += self._of(self._episode_of(ordinal), MAX_GAPS - len(found))
            episodes: list[Gap] = []
            for worker, agent, numbers in self._holes():
                holes = numbers.holes[: MAX_GAPS - len(episodes)]
                episodes += [Gap(worker, agent, first, last, 0, 0) for first, last in holes]
            self._listed = found + episodes
        return self._listed

    def open_ends(self) -> list[Gap]:
        """Return what the records of the newest episodes tell of and has not come: at most :data:`MAX_GAPS`; it may be under way."""
        found: list[Gap] = []
        for episodes in self._under_way.values():
            for episode in episodes.values():
                end = self._end(episode)
                if end < episode.length and len(found) < MAX_GAPS:
                    key = (episode.worker_id, episode.agent_id, episode.number, episode.number)
                    found.append(Gap(*key, end, episode.length - end))
        return found

    def _of(self, episode: Episode, most: int) -> Iterable[Gap]:
        key = (episode.worker_id, episode.agent_id, episode.number, episode.number)
        return [Gap(*key, first, length) for first, length in episode.gaps(self._end(episode), most)]

    def problems(self) -> list[Problem]:
        """Return what is missing as problems: steps are counted, and whole episodes."""
        found = []
        if self._missing:
            episode = self._episode_of(next(reversed(self._missing)))
            first, length = episode.last_gap(self._end(episode))
            who = _who(episode.worker_id, episode.agent_id)
            detail = f"{length} steps from step {first} of episode {episode.number}{who} are missing"
            if length != self._total:
                detail = (
                    f"{self._total} steps are missing in {_count(len(self._missing), 'episode')}; the last: {detail}"
                )
            found.append(Problem("gap", detail, count=self._total))
        jumped = list(self._holes())
        if jumped:
            worker, agent, numbers = jumped[-1]
            first, last = numbers.holes[-1]
            named = (f"{first}" if first == last else f"{first} to {last}") + _who(worker, agent)
            count = sum(numbers.missing for _, _, numbers in jumped)
            places = sum(len(numbers.holes) for _, _, numbers in jumped)
            detail = f"nothing has come of episode {named}"
            if places > 1:
                detail = f"nothing has come of {count} episodes in {places} places; the last: {named}"
            found.append(Problem("episode_gap", detail, count=count))
        return found


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _who(worker: str, agent: str) -> str:
    named = [f"{what} {name!r}" for what, name in (("agent", agent), ("worker", worker)) if name]
    return f" of {', '.join(named)}" if named else ""
