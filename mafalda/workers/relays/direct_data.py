"""Messages of direct data producers, which cross relays on the sideband.

An application sends by a direct data producer, and may choose sub-channels for each message. SCTP has no field for
those, so a message that crosses a pipe has lost them.
"""

from __future__ import annotations

from mafalda.contract.messages.channel_calls import ChannelNotice
from mafalda.mediasoup import DataProducer
from mafalda.mediasoup.codec.channel_json import from_json
from mafalda.workers.core.instructions import RelayKey
from mafalda.workers.relays.sideband import RelaySideband

#: The notice by which an application's library sends a message of a data producer.
SEND = "DATAPRODUCER_SEND"


def send(sideband: RelaySideband, room: str, worker: str, producer: DataProducer, notice: ChannelNotice) -> None:
    """Send a message by a data producer on a worker of this server, and by its relay targets.

    Raises:
        InvalidParameters: The notice has no message.
    """
    producer.send_body(from_json(notice.body))
    if not producer.paused:
        sideband.forward(room, worker, notice)


def receive(sideband: RelaySideband, key: RelayKey, producer: DataProducer, notice: ChannelNotice) -> None:
    """Send a message that came over the sideband by the relay target's data producer; other notices are ignored."""
    if notice.event == SEND and not producer.closed:
        send(sideband, key.room, key.worker, producer, notice)
