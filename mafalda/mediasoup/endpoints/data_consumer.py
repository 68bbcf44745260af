"""A data consumer: messages of a data producer on their way to one endpoint.

What does not belong here: how it is made (``transport``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from mafalda.media.rtp import SctpStreamParameters
from mafalda.mediasoup.channel.channel import Channel
from mafalda.mediasoup.endpoints.data_message import DataMessage, encode_message
from mafalda.mediasoup.endpoints.data_producer import DataType
from mafalda.mediasoup.objects.entity import Entity, JsonObject, check_list
from mafalda.mediasoup.objects.events import Event


class DataConsumer(Entity):
    """Made by ``transport.consume_data``."""

    MESSAGE: ClassVar = Event[DataMessage]("message")
    BUFFERED_AMOUNT_LOW: ClassVar = Event[int]("bufferedamountlow")
    SCTP_SEND_BUFFER_FULL: ClassVar = Event[None]("sctpsendbufferfull")
    PAUSE: ClassVar = Event[None]("pause")
    RESUME: ClassVar = Event[None]("resume")
    DATA_PRODUCER_PAUSE: ClassVar = Event[None]("dataproducerpause")
    DATA_PRODUCER_RESUME: ClassVar = Event[None]("dataproducerresume")
    DATA_PRODUCER_CLOSE: ClassVar = Event[None]("dataproducerclose")
    TRANSPORT_CLOSE: ClassVar = Event[None]("transportclose")

    def __init__(
        self,
        channel: Channel,
        id: str,
        app_data: Mapping[str, Any] | None,
        forget: Callable[[Any], None],
        *,
        transport_id: str,
        data_producer_id: str,
        type: DataType,
        sctp_stream_parameters: SctpStreamParameters | None,
        label: str,
        protocol: str,
        paused: bool,
        data_producer_paused: bool,
        subchannels: Sequence[int],
    ) -> None:
        super().__init__(channel, id, app_data, forget)
        self._transport_id = transport_id
        self.data_producer_id = data_producer_id
        self.type: DataType = type
        self.sctp_stream_parameters = sctp_stream_parameters
        self.label = label
        self.protocol = protocol
        self._paused = paused
        self._data_producer_paused = data_producer_paused
        self._subchannels = tuple(subchannels)

    @property
    def paused(self) -> bool:
        """Whether it is paused itself, whatever its data producer is."""
        return self._paused

    @property
    def data_producer_paused(self) -> bool:
        """Whether its data producer is paused."""
        return self._data_producer_paused

    @property
    def subchannels(self) -> tuple[int, ...]:
        """The subchannels that it listens to."""
        return self._subchannels

    async def dump(self) -> JsonObject:
        """Its state in the worker, in mediasoup's shape."""
        return await self._request("DATACONSUMER_DUMP")

    async def get_stats(self) -> list[JsonObject]:
        """Its counters, as a list of one."""
        return [{"type": "data-consumer", **await self._request("DATACONSUMER_GET_STATS")}]

    async def pause(self) -> None:
        """Stop sending; messages of that time are lost."""
        await self._request("DATACONSUMER_PAUSE")
        was_paused, self._paused = self._paused, True
        if not was_paused and not self._data_producer_paused:
            self._emit(self.PAUSE)

    async def resume(self) -> None:
        """Send again."""
        await self._request("DATACONSUMER_RESUME")
        was_paused, self._paused = self._paused, False
        if was_paused and not self._data_producer_paused:
            self._emit(self.RESUME)

    async def send(self, message: str | bytes, ppid: int | None = None) -> int:
        """Send a message to the endpoint; returns the bytes that are buffered for it.

        Raises:
            InvalidParameters: It is neither text nor bytes.
            WorkerRequestFailed: The send buffer is full.
        """
        data, chosen = encode_message(message, ppid)
        answer = await self._request("DATACONSUMER_SEND", {"ppid": chosen, "data": data})
        return int(answer.get("bufferedAmount", 0))

    async def get_buffered_amount(self) -> int:
        """Bytes that wait to be sent."""
        return int((await self._request("DATACONSUMER_GET_BUFFERED_AMOUNT"))["bufferedAmount"])

    async def set_buffered_amount_low_threshold(self, threshold_bytes: int) -> None:
        """Emit ``bufferedamountlow`` when the buffered bytes fall to this."""
        body = {"threshold": threshold_bytes}
        await self._request("DATACONSUMER_SET_BUFFERED_AMOUNT_LOW_THRESHOLD", body)

    async def set_subchannels(self, subchannels: Sequence[int]) -> None:
        """Listen to these subchannels instead."""
        body = {"subchannels": check_list(subchannels, "subchannels")}
        self._take_subchannels(await self._request("DATACONSUMER_SET_SUBCHANNELS", body))

    async def add_subchannel(self, subchannel: int) -> None:
        """Listen to one subchannel more."""
        self._take_subchannels(await self._request("DATACONSUMER_ADD_SUBCHANNEL", {"subchannel": subchannel}))

    async def remove_subchannel(self, subchannel: int) -> None:
        """Listen to one subchannel less."""
        body = {"subchannel": subchannel}
        self._take_subchannels(await self._request("DATACONSUMER_REMOVE_SUBCHANNEL", body))

    def _take_subchannels(self, answer: JsonObject) -> None:
        self._subchannels = tuple(answer["subchannels"])

    def _close_request(self) -> tuple[str, str, JsonObject]:
        return "TRANSPORT_CLOSE_DATACONSUMER", self._transport_id, {"dataConsumerId": self._id}

    def _on_notification(self, event: str, body: JsonObject) -> None:
        match event:
            case "DATACONSUMER_MESSAGE":
                self._emit(self.MESSAGE, DataMessage(body["data"], body["ppid"]))
            case "DATACONSUMER_BUFFERED_AMOUNT_LOW":
                self._emit(self.BUFFERED_AMOUNT_LOW, body["bufferedAmount"])
            case "DATACONSUMER_SCTP_SENDBUFFER_FULL":
                self._emit(self.SCTP_SEND_BUFFER_FULL)
            case "DATACONSUMER_DATAPRODUCER_CLOSE":
                self._end("dataproducerclose")
            case "DATACONSUMER_DATAPRODUCER_PAUSE" if not self._data_producer_paused:
                self._data_producer_paused = True
                self._emit(self.DATA_PRODUCER_PAUSE)
                if not self._paused:
                    self._emit(self.PAUSE)
            case "DATACONSUMER_DATAPRODUCER_RESUME" if self._data_producer_paused:
                self._data_producer_paused = False
                self._emit(self.DATA_PRODUCER_RESUME)
                if not self._paused:
                    self._emit(self.RESUME)
