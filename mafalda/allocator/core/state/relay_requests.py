"""What agents request for the subscriptions of their peers: producers to be relayed to one of their workers. Pure.

An agent requests again what it still lacks, so nothing here has to last: an allocator decides the requests that it is
given first, and keeps those that wait for a relay.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.payload import Place

#: Requests that are kept; an older one is made again by its agent.
_MAX_KEPT = 1_024


@dataclass(slots=True, eq=False)
class RelayRequest:
    """One request. ``producers`` are those that no decision has answered yet.

    ``seq`` is its log entry, ``message`` the entry's message, ``target`` the worker that lacks the producers.
    """

    seq: int
    room: str
    target: Place
    producers: list[str]
    message: Message | None


@dataclass(slots=True)
class RelayRequests:
    """The last requests, by log entry, and those among them that wait for a relay of a producer to open or end."""

    _by_seq: OrderedDict[int, RelayRequest] = field(default_factory=OrderedDict)
    _waiting: dict[tuple[str, str], set[int]] = field(default_factory=dict)  # (room, producer): sequences
    _woken: dict[int, None] = field(default_factory=dict)

    def __iter__(self) -> Iterator[RelayRequest]:
        """The requests of which producers are still to be decided, the oldest first."""
        return iter(self._by_seq.values())

    def add(self, request: RelayRequest) -> None:
        """Add a request."""
        self._by_seq[request.seq] = request
        if len(self._by_seq) > _MAX_KEPT:
            _, oldest = self._by_seq.popitem(last=False)
            self._forget(oldest)

    def get(self, seq: int) -> RelayRequest | None:
        """The request of a log entry, if producers of it are still to be decided."""
        return self._by_seq.get(seq)

    def wait(self, request: RelayRequest, producers: Iterable[str]) -> None:
        """Relays of these producers wake the request from now on; it is not decided yet."""
        for producer in producers:
            self._waiting.setdefault((request.room, producer), set()).add(request.seq)

    def decided(self, request: RelayRequest, waiting: Iterable[str]) -> None:
        """A request is decided but for the producers that wait for a relay; without such it ends."""
        self._forget(request)
        request.producers = list(waiting)
        self.wait(request, request.producers)
        if not request.producers:
            self._by_seq.pop(request.seq, None)

    def wake(self, room: str, producer: str) -> None:
        """A relay of the producer opened or ended."""
        self._woken.update(dict.fromkeys(sorted(self._waiting.get((room, producer), ()))))

    def take_woken(self) -> list[RelayRequest]:
        """The requests to be decided again, since the last call."""
        woken, self._woken = self._woken, {}
        return [request for seq in woken if (request := self._by_seq.get(seq))]

    def _forget(self, request: RelayRequest) -> None:
        for producer in request.producers:
            if seqs := self._waiting.get((request.room, producer)):
                seqs.discard(request.seq)
                if not seqs:
                    del self._waiting[request.room, producer]
