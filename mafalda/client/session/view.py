"""What a client knows of its room: the agent's snapshot, and the room events after it. Pure.

It agrees with the fold in ``mafalda.projection``, and needs only what a client may read: room events.
"""

from __future__ import annotations

from typing import Literal

from mafalda.contract.messages import events
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.queries import DataProducerInfo, PeerInfo, ProducerInfo, RoomSnapshot

AnyProducer = ProducerInfo | DataProducerInfo

#: ``moved``: its owner lost its place or its transport and will open it again under the same id.
ProducerChange = Literal["opened", "paused", "resumed", "moved", "closed"]

#: The reasons of a close after which the owner opens the producer again.
_REOPENED: tuple[events.ClosedReason, ...] = ("transport-closed", "peer-moved", "worker-died")


class RoomSnapshotView:
    """Peers, producers and data producers by id, including the client's own."""

    def __init__(self) -> None:
        self.seq = 0
        self.peers: dict[str, PeerInfo] = {}
        self.producers: dict[str, AnyProducer] = {}
        self._generations: dict[str, int] = {}
        self._moving: set[str] = set()

    def start(self, snapshot: RoomSnapshot) -> None:
        """Begin with the first page of a snapshot."""
        self.seq = snapshot.seq
        self.peers.clear()
        self.producers.clear()
        self._generations.clear()
        self._moving.clear()
        self.add(snapshot)

    def can_consume(self, producer: str) -> bool:
        """Whether a producer is there and is not being handed over, in which case it is about to be opened again."""
        return producer in self.producers and producer not in self._moving

    def add(self, page: RoomSnapshot) -> None:
        """Add one more page of the snapshot; events after its first page are still to be applied."""
        self.peers |= {peer.peer: peer for peer in page.peers}
        self.producers |= {producer.producer: producer for producer in page.producers}
        self.producers |= {producer.data_producer: producer for producer in page.data_producers}

    def apply(self, seq: int, event: Payload) -> dict[str, ProducerChange]:
        """Apply one room event; events that the snapshot contains already are passed over.

        Returns:
            The producers, by id, that this event opened, paused, resumed, moved, or closed for good.
        """
        if seq <= self.seq:
            return {}
        self.seq = seq
        match event:
            case events.PeerJoined():
                self.peers[event.peer] = PeerInfo(peer=event.peer, app_data=event.app_data)
            case events.PeerUpdated() if event.peer in self.peers:
                self.peers[event.peer] = PeerInfo(peer=event.peer, app_data=event.app_data)
            case events.PeerMoved() if event.handover:
                # Its producers go on at the former place until they are open at the new one.
                self._moving |= {key for key, info in self.producers.items() if info.peer == event.peer}
                return {}
            case events.PeerMoved() | events.PeerStranded():
                return self._drop_all_of(event.peer, "moved")
            case events.PeerLeft() | events.PeerDemoted():
                self.peers.pop(event.peer, None)
                return self._drop_all_of(event.peer, "closed")
            case events.ProducerOpened() | events.DataProducerOpened():
                return self._opened(event)
            case events.ProducerPaused() | events.ProducerResumed():
                return self._paused(event)
            case events.ProducerClosed():
                return self._closed(event.producer, event)
            case events.DataProducerClosed():
                return self._closed(event.data_producer, event)
        return {}

    def _opened(self, event: events.ProducerOpened | events.DataProducerOpened) -> dict[str, ProducerChange]:
        info: AnyProducer
        if isinstance(event, events.DataProducerOpened):
            key = event.data_producer
            info = DataProducerInfo(
                data_producer=key,
                peer=event.peer,
                label=event.label,
                protocol=event.protocol,
                app_data=event.app_data,
            )
        else:
            key = event.producer
            info = ProducerInfo(
                producer=key,
                peer=event.peer,
                media_kind=event.media_kind,
                paused=event.paused,
                app_data=event.app_data,
            )
        if (owner := self.producers.get(key)) and owner.peer != event.peer:
            return {}  # of two peers who take the same id at once, the first has it
        self.producers[key] = info
        self._generations[key] = event.generation
        self._moving.discard(key)
        return {key: "opened"}

    def _paused(self, event: events.ProducerPaused | events.ProducerResumed) -> dict[str, ProducerChange]:
        info = self.producers.get(event.producer)
        if not isinstance(info, ProducerInfo):
            return {}
        paused = isinstance(event, events.ProducerPaused)
        self.producers[event.producer] = info.model_copy(update={"paused": paused})
        return {event.producer: "paused" if paused else "resumed"}

    def _closed(self, key: str, event: events.ProducerClosed | events.DataProducerClosed) -> dict[str, ProducerChange]:
        owner, generation = self.producers.get(key), event.generation
        if owner is None or owner.peer != event.peer or self._generations.get(key, generation) > generation:
            return {}
        del self.producers[key]
        self._moving.discard(key)
        return {key: "moved" if event.reason in _REOPENED else "closed"}

    def _drop_all_of(self, peer: str, change: ProducerChange) -> dict[str, ProducerChange]:
        gone = [key for key, info in self.producers.items() if info.peer == peer]
        for key in gone:
            del self.producers[key]
        self._moving.difference_update(gone)
        return dict.fromkeys(gone, change)
