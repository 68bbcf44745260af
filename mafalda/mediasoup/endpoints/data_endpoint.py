"""What data producers and data consumers have in common: the data channel that they belong to."""

from __future__ import annotations

from typing import Literal

from mafalda.media.rtp import SctpStreamParameters
from mafalda.mediasoup.base.entity import JsonObject

DataType = Literal["sctp", "direct"]


class DataEndpoint:
    """The attributes of a data channel's end, read from the worker's answer.

    Attributes:
        type: ``sctp``, or ``direct`` on a direct transport.
        sctp_stream_parameters: ``None`` for ``direct``.
        label: Of the data channel.
        protocol: Of the data channel.
    """

    type: DataType
    sctp_stream_parameters: SctpStreamParameters | None
    label: str
    protocol: str

    def _read_data_channel(self, answer: JsonObject) -> None:
        parameters = answer.get("sctpStreamParameters")
        self.type = answer["type"]
        self.sctp_stream_parameters = None
        if parameters is not None:
            self.sctp_stream_parameters = SctpStreamParameters.model_validate(parameters)
        self.label = answer["label"]
        self.protocol = answer["protocol"]
