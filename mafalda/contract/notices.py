"""Notices: what is told outside the log, in order, and never answered.

An application that speaks the worker's channel sends media through it and hears of its objects (``docs/dropin.md``).
Application to agent on ``…peer.{peer}.notice.channel``, agent to the application's inbox.
"""

from __future__ import annotations

from typing import ClassVar

from mafalda.contract.channel_calls import ChannelNotice
from mafalda.contract.payload import Kind, Payload


class Notice(Payload):
    """Something told outside the log."""

    kind: ClassVar[Kind] = "notice"


class ChannelNotices(Notice):
    """Notifications of, or for, one peer's objects, in order."""

    action = "channel"
    items: list[ChannelNotice]


NOTICES: tuple[type[Notice], ...] = (ChannelNotices,)
