"""Errors of the webhook bridge."""

from __future__ import annotations

from mafalda.errors import Broken


class NotDelivered(Broken):
    """The endpoint did not take an event."""

    code = "not-delivered"


class EndpointGone(Broken):
    """The endpoint wants no events any more."""

    code = "endpoint-gone"
