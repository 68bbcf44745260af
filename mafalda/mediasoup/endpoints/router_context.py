"""The producers of one router by id, and what else a router shares with its transports and RTP observers."""

from __future__ import annotations

from typing import Generic, TypeVar

from mafalda.media.rtp import RtpCapabilities
from mafalda.mediasoup.base.ids import check_id
from mafalda.mediasoup.endpoints.data_producer import DataProducer
from mafalda.mediasoup.endpoints.producer import Producer
from mafalda.mediasoup.errors import NotFound

P = TypeVar("P", Producer, DataProducer)


class Registry(Generic[P]):
    """The open producers (or data producers) of a router, by their public ids, on whichever transport.

    Args:
        what: What they are called in errors.
        id_field: The detail of errors that holds the id.
    """

    def __init__(self, what: str, id_field: str) -> None:
        self._what = what
        self._id_field = id_field
        self._open: dict[str, P] = {}

    def get(self, id: str) -> P | None:
        """The one with this id, if there is one."""
        return self._open.get(id)

    def require(self, id: str) -> P:
        """The one with this id.

        Raises:
            NotFound: There is none.
            InvalidParameters: It is not an id.
        """
        found = self._open.get(check_id(id))
        if found is None:
            raise NotFound(f"the router has no such {self._what}", **{self._id_field: id})
        return found

    def add(self, producer: P) -> None:
        """It was created."""
        self._open[producer.id] = producer

    def remove(self, producer: P) -> None:
        """It closed."""
        self._open.pop(producer.id, None)


class RouterContext:
    """What a router shares with its transports and RTP observers.

    They depend on this instead of on the router, so that imports point one way: from the router to its children.

    Attributes:
        id: The router's.
        rtp_capabilities: The router's, for producers that are created from now on.
        scope: Appended to the ids of the router's producers inside the worker; empty: nothing.
        producers: On all of the router's transports.
        data_producers: On all of the router's transports.
    """

    def __init__(self, id: str, rtp_capabilities: RtpCapabilities, scope: str) -> None:
        self.id = id
        self.rtp_capabilities = rtp_capabilities
        self.scope = scope
        self.producers: Registry[Producer] = Registry("producer", "producer_id")
        self.data_producers: Registry[DataProducer] = Registry("data producer", "data_producer_id")

    def scoped(self, id: str) -> str:
        """The worker's id of a producer of this router: a worker has one namespace for all of its routers."""
        return id + self.scope

    def producer_in_worker(self, id: str) -> Producer | None:
        """The producer that has this id inside the worker, if it is open."""
        return self.producers.get(id.removesuffix(self.scope))
