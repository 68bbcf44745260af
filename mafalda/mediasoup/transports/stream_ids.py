"""Allocation of SCTP stream ids to one transport's data consumers."""

from __future__ import annotations

from mafalda.mediasoup.errors import WorkerRequestFailed

MAX_STREAMS = 65535


class StreamIds:
    """Allocates the next free id, round robin, so that an id is not reused at once."""

    def __init__(self) -> None:
        self._used: set[int] = set()
        self._next = 0
        self._limit = MAX_STREAMS

    def limit(self, outbound_streams: int) -> None:
        """Allocate ids below the number of outbound streams that the association negotiated."""
        self._limit = min(max(outbound_streams, 1), MAX_STREAMS)

    def take(self) -> int:
        """Allocate a free id.

        Raises:
            WorkerRequestFailed: All are in use.
        """
        for offset in range(self._limit):
            candidate = (self._next + offset) % self._limit
            if candidate not in self._used:
                self._used.add(candidate)
                self._next = candidate + 1
                return candidate
        raise WorkerRequestFailed("no SCTP stream id is free", streams=self._limit)

    def give_back(self, stream_id: int) -> None:
        """Free an id."""
        self._used.discard(stream_id)
