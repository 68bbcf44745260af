"""A data consumer: messages of a data producer that a transport sends to its endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from mafalda.mediasoup.base.checks import check_list
from mafalda.mediasoup.base.entity import EntityContext, JsonObject
from mafalda.mediasoup.base.events import Event
from mafalda.mediasoup.base.pausable import PausableWithSource
from mafalda.mediasoup.endpoints.data_endpoint import DataEndpoint
from mafalda.mediasoup.endpoints.data_message import DataMessage, encode_message


class DataConsumer(PausableWithSource, DataEndpoint):
    """Created by ``transport.consume_data``. While it is paused, messages are lost."""

    MESSAGE: ClassVar = Event[DataMessage]("message")
    BUFFERED_AMOUNT_LOW: ClassVar = Event[int]("bufferedamountlow")
    SCTP_SEND_BUFFER_FULL: ClassVar = Event[None]("sctpsendbufferfull")
    DATA_PRODUCER_PAUSE: ClassVar = Event[None]("dataproducerpause")
    DATA_PRODUCER_RESUME: ClassVar = Event[None]("dataproducerresume")
    DATA_PRODUCER_CLOSE: ClassVar = Event[None]("dataproducerclose")
    TRANSPORT_CLOSE: ClassVar = Event[None]("transportclose")

    CLOSE_METHOD = "TRANSPORT_CLOSE_DATACONSUMER"
    ID_KEY = "dataConsumerId"
    PAUSE_METHOD = "DATACONSUMER_PAUSE"
    RESUME_METHOD = "DATACONSUMER_RESUME"

    def __init__(self, context: EntityContext, answer: JsonObject, *, data_producer_id: str) -> None:
        super().__init__(context, paused=answer["paused"], source_paused=answer["dataProducerPaused"])
        self._read_data_channel(answer)
        self.data_producer_id = data_producer_id
        self._subchannels = tuple(answer["subchannels"])

    @property
    def data_producer_paused(self) -> bool:
        """Whether its data producer is paused."""
        return self._source_paused

    @property
    def subchannels(self) -> tuple[int, ...]:
        """Its subchannels."""
        return self._subchannels

    async def dump(self) -> JsonObject:
        """Its state in the worker, in mediasoup's shape."""
        return await self._request("DATACONSUMER_DUMP")

    async def get_stats(self) -> list[JsonObject]:
        """Its counters, as a list of one."""
        return [{"type": "data-consumer", **await self._request("DATACONSUMER_GET_STATS")}]

    async def send(self, message: str | bytes, ppid: int | None = None) -> int:
        """Send a message to the endpoint; returns how many bytes are buffered for it.

        Raises:
            InvalidParameters: It is neither text nor bytes.
            WorkerRequestFailed: The send buffer is full.
        """
        data, chosen = encode_message(message, ppid)
        answer = await self._request("DATACONSUMER_SEND", {"ppid": chosen, "data": data})
        return int(answer.get("bufferedAmount", 0))

    async def get_buffered_amount(self) -> int:
        """How many bytes wait to be sent."""
        return int((await self._request("DATACONSUMER_GET_BUFFERED_AMOUNT"))["bufferedAmount"])

    async def set_buffered_amount_low_threshold(self, threshold_bytes: int) -> None:
        """Emit ``bufferedamountlow`` when the buffered bytes fall to this."""
        body = {"threshold": threshold_bytes}
        await self._request("DATACONSUMER_SET_BUFFERED_AMOUNT_LOW_THRESHOLD", body)

    async def set_subchannels(self, subchannels: Sequence[int]) -> None:
        """Replace its subchannels."""
        body = {"subchannels": check_list(subchannels, "subchannels")}
        self._read_subchannels(await self._request("DATACONSUMER_SET_SUBCHANNELS", body))

    async def add_subchannel(self, subchannel: int) -> None:
        """Add a subchannel."""
        self._read_subchannels(await self._request("DATACONSUMER_ADD_SUBCHANNEL", {"subchannel": subchannel}))

    async def remove_subchannel(self, subchannel: int) -> None:
        """Remove a subchannel."""
        body = {"subchannel": subchannel}
        self._read_subchannels(await self._request("DATACONSUMER_REMOVE_SUBCHANNEL", body))

    def _read_subchannels(self, answer: JsonObject) -> None:
        self._subchannels = tuple(answer["subchannels"])

    def _on_notification(self, event: str, body: JsonObject) -> None:
        match event:
            case "DATACONSUMER_MESSAGE":
                self._emit(self.MESSAGE, DataMessage(body["data"], body["ppid"]))
            case "DATACONSUMER_BUFFERED_AMOUNT_LOW":
                self._emit(self.BUFFERED_AMOUNT_LOW, body["bufferedAmount"])
            case "DATACONSUMER_SCTP_SENDBUFFER_FULL":
                self._emit(self.SCTP_SEND_BUFFER_FULL)
            case "DATACONSUMER_DATAPRODUCER_CLOSE":
                self.end("dataproducerclose")
            case "DATACONSUMER_DATAPRODUCER_PAUSE":
                self._set_source_paused(True, self.DATA_PRODUCER_PAUSE)
            case "DATACONSUMER_DATAPRODUCER_RESUME":
                self._set_source_paused(False, self.DATA_PRODUCER_RESUME)
