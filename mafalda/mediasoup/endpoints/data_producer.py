"""A data producer: messages that come into the router.

What does not belong here: how it is made (``transport``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from mafalda.media.rtp import SctpStreamParameters
from mafalda.mediasoup.channel.channel import Channel
from mafalda.mediasoup.endpoints.data_message import encode_message
from mafalda.mediasoup.objects.entity import Entity, JsonObject, check_list
from mafalda.mediasoup.objects.events import Event

DataType = Literal["sctp", "direct"]


class DataProducer(Entity):
    """Made by ``transport.produce_data``."""

    PAUSE: ClassVar = Event[None]("pause")
    RESUME: ClassVar = Event[None]("resume")
    TRANSPORT_CLOSE: ClassVar = Event[None]("transportclose")

    def __init__(
        self,
        channel: Channel,
        id: str,
        app_data: Mapping[str, Any] | None,
        forget: Callable[[Any], None],
        *,
        transport_id: str,
        type: DataType,
        sctp_stream_parameters: SctpStreamParameters | None,
        label: str,
        protocol: str,
        paused: bool,
        public_id: str | None = None,
    ) -> None:
        super().__init__(channel, id, app_data, forget, public_id)
        self._transport_id = transport_id
        self.type: DataType = type
        self.sctp_stream_parameters = sctp_stream_parameters
        self.label = label
        self.protocol = protocol
        self._paused = paused

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return self._paused

    async def dump(self) -> JsonObject:
        """Its state in the worker, in mediasoup's shape."""
        return await self._request("DATAPRODUCER_DUMP")

    async def get_stats(self) -> list[JsonObject]:
        """Its counters, as a list of one."""
        return [{"type": "data-producer", **await self._request("DATAPRODUCER_GET_STATS")}]

    async def pause(self) -> None:
        """Stop forwarding it to its data consumers."""
        await self._request("DATAPRODUCER_PAUSE")
        was_paused, self._paused = self._paused, True
        if not was_paused:
            self._emit(self.PAUSE)

    async def resume(self) -> None:
        """Forward it again."""
        await self._request("DATAPRODUCER_RESUME")
        was_paused, self._paused = self._paused, False
        if was_paused:
            self._emit(self.RESUME)

    def send(
        self,
        message: str | bytes,
        ppid: int | None = None,
        *,
        subchannels: Sequence[int] = (),
        required_subchannel: int | None = None,
        ignored_subchannel: int | None = None,
    ) -> None:
        """Send a message, for data producers of a direct transport.

        Args:
            message: Text or bytes.
            ppid: SCTP payload protocol identifier; None is the one for the message's type.
            subchannels: Only data consumers with one of these get it; empty: all do.
            required_subchannel: Only data consumers with this one get it.
            ignored_subchannel: Data consumers with this one do not get it.

        Raises:
            InvalidParameters: It is no message.
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
        self._channel.notify("DATAPRODUCER_SEND", self._id, body)

    def _close_request(self) -> tuple[str, str, JsonObject]:
        return "TRANSPORT_CLOSE_DATAPRODUCER", self._transport_id, {"dataProducerId": self._id}
