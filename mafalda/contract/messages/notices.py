"""Notices: messages outside the log, in order, without a reply.

An application that speaks the worker's channel sends media through it and is notified about its objects
(``docs/dropin.md``). They go from an application to its agent on ``…peer.{peer}.notice.channel``, from an agent to the
application's inbox, and from agent to agent on ``…server.{server}.notice.relay``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from mafalda.contract.ids import Id
from mafalda.contract.messages.channel_calls import ChannelNotice
from mafalda.contract.messages.payload import Kind, Payload, Place


class Notice(Payload):
    """A message outside the log."""

    kind: ClassVar[Kind] = "notice"


class ChannelNotices(Notice):
    """Notifications of, or for, one peer's objects, in order."""

    action = "channel"
    items: list[ChannelNotice]


class RelayNotices(Notice):
    """What crosses a relay outside its pipe: messages of a direct data producer, and scores of a producer.

    SCTP has no word for sub-channels, so what an application sends by its data producer crosses no pipe
    (``DATAPRODUCER_SEND``); and a worker scores a piped producer by what crossed, not by what reached its origin
    (``PRODUCER_SCORE``, with ``scores`` by encoding).
    """

    action = "relay"
    room: Id
    source: Place
    target: Place
    items: list[ChannelNotice]


class AudioLevelsWanted(Notice):
    """A server wants the levels of a room's audio producers, for some seconds: subscriptions there want the loudest."""

    action = "audio-levels-wanted"
    room: Id
    listener: Id = Field(description="The server that they are sent to.")


class AudioLevels(Notice):
    """How loud audio producers of a room were on average since the last such notice, where they are received."""

    action = "audio-levels"
    room: Id
    levels: dict[Id, Annotated[int, Field(ge=-127, le=0)]] = Field(description="dBov, by producer; -127: nothing.")


#: Notifications in one message, and their bytes of JSON, roughly: a message has a greatest size.
MAX_BATCH, MAX_BATCH_BYTES = 64, 96 * 1024


def first_batch(items: Sequence[ChannelNotice]) -> list[ChannelNotice]:
    """As many of these, from the first, as one message should hold; at least one, if there is one."""
    size_bytes = 0
    for number, notice in enumerate(items[:MAX_BATCH]):
        size_bytes += len(repr(notice.body)) if notice.body else 0
        if size_bytes > MAX_BATCH_BYTES and number:
            return list(items[:number])
    return list(items[:MAX_BATCH])


NOTICES: tuple[type[Notice], ...] = (ChannelNotices, RelayNotices, AudioLevelsWanted, AudioLevels)
