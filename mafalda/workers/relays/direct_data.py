"""Messages of direct data producers, which cross relays beside the pipe.

An application sends by a direct data producer, and may choose sub-channels. SCTP has no word for those, so what crosses
a pipe has lost them. What does not belong here: how notices get from worker to worker (``beside``).
"""

from __future__ import annotations

from mafalda.contract.messages.channel_calls import ChannelNotice
from mafalda.mediasoup import DataProducer
from mafalda.mediasoup.codec.channel_json import from_json
from mafalda.workers.relays.pipes import PipeKey
from mafalda.workers.relays.sideband import Beside, Stop

#: How an application's library sends by a data producer.
SEND = "DATAPRODUCER_SEND"


def send(beside: Beside, room: str, worker: str, producer: DataProducer, notice: ChannelNotice) -> None:
    """Let a data producer on a worker of ours send a message, here and wherever it is carried.

    Raises:
        InvalidParameters: It is none.
    """
    producer.send_body(from_json(notice.body))
    if not producer.paused:
        beside.tell(room, worker, notice)


def mirror(beside: Beside, pipe: PipeKey, producer: DataProducer) -> Stop:
    """Let a mirror on a worker of ours send what its origin sends; returns how to stop that."""

    def hear(notice: ChannelNotice) -> None:
        if notice.event == SEND and not producer.closed:
            send(beside, pipe.room, pipe.target.worker, producer, notice)

    return beside.expect(pipe, producer.id, hear)
