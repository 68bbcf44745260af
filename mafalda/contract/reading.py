"""Decode a received message and check it against the subject on which it came."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mafalda.contract.channels import fits
from mafalda.contract.messages.envelope import Message, decode
from mafalda.contract.subjects import Address, parse
from mafalda.errors import MalformedMessage

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def read_message(subject: str, data: bytes) -> tuple[Address, Message]:
    """Parse the subject of a received message and decode the message.

    NATS checks who may publish on a subject, not what is published there. So whoever reads a subject must refuse a
    message that belongs to another one, or that names another subject as its own.

    Args:
        subject: Without the ``live.`` prefix.
        data: The CloudEvent as JSON, as it came.

    Raises:
        BadInput: The subject is not one of Mafalda's, the data is no message, or the message belongs on another
            subject, or names one.
    """
    address = parse(subject)
    if address is None:
        raise MalformedMessage("not a subject of Mafalda", subject=subject[:128])
    return address, check_message(address, data)


def check_message(address: Address, data: bytes, instead: Mapping[str, Any] = _NOTHING) -> Message:
    """As ``read_message``, for a subject that was parsed before; ``instead`` as for ``decode``."""
    message = decode(data, instead)
    if not fits(address, message.data):
        raise MalformedMessage("this message belongs on another subject", type=message.type)
    if message.subject is not None and message.subject != address.subject:
        raise MalformedMessage("subject: not the subject on which the message is published", type=message.type)
    return message
