"""A data producer: data channel messages that a transport receives into the router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mafalda.mediasoup.base.checks import check_list
from mafalda.mediasoup.base.entity import EntityContext, JsonObject
from mafalda.mediasoup.base.events import Event
from mafalda.mediasoup.base.pausable import Pausable
from mafalda.mediasoup.endpoints.data_endpoint import DataEndpoint
from mafalda.mediasoup.endpoints.data_message import encode_message


class DataProducer(Pausable, DataEndpoint):
    """Created by ``transport.produce_data``."""

    TRANSPORT_CLOSE: ClassVar = Event[None]("transportclose")

    CLOSE_METHOD = "TRANSPORT_CLOSE_DATAPRODUCER"
    ID_KEY = "dataProducerId"
    PAUSE_METHOD = "DATAPRODUCER_PAUSE"
    RESUME_METHOD = "DATAPRODUCER_RESUME"

    def __init__(self, context: EntityContext, answer: JsonObject, *, paused: bool) -> None:
        super().__init__(context, paused=paused)
        self._read_data_channel(answer)

    async def dump(self) -> JsonObject:
        """Its state in the worker, in mediasoup's shape."""
        return await self._request("DATAPRODUCER_DUMP")

    async def get_stats(self) -> list[JsonObject]:
        """Its counters, as a list of one."""
        return [{"type": "data-producer", **await self._request("DATAPRODUCER_GET_STATS")}]

    def send(
        self,
        message: str | bytes,
        ppid: int | None = None,
        *,
        subchannels: Sequence[int] = (),
        required_subchannel: int | None = None,
        ignored_subchannel: int | None = None,
    ) -> None:
        """Send a message; for data producers of a direct transport.

        Args:
            message: Text or bytes.
            ppid: SCTP payload protocol identifier; None: that of the message's type.
            subchannels: Only data consumers with one of these get it; empty: all do.
            required_subchannel: Only data consumers with this one get it.
            ignored_subchannel: Data consumers with this one do not get it.

        Raises:
            InvalidParameters: It is neither text nor bytes, or an option is malformed.
        """
        self._check_open()
        data, chosen = encode_message(message, ppid)
        body = {
            "ppid": chosen,
            "data": data,
            "subchannels": check_list(subchannels, "subchannels"),
            "requiredSubchannel": required_subchannel,
            "ignoredSubchannel": ignored_subchannel,
        }
        self.send_body(body)

    def send_body(self, body: Mapping[str, Any] | None) -> None:
        """Send a message as a ``DATAPRODUCER_SEND`` body that another library wrote, for passthrough.

        Raises:
            InvalidParameters: The body does not fit the schema.
        """
        self._channel.notify("DATAPRODUCER_SEND", self._id, body)
