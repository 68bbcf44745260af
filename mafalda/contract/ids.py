"""The alphabet of ids, which are tokens of subjects, and ids derived from other ids."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

from pydantic import StringConstraints

from mafalda.errors import IllegalId

ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]


def check_id(what: str, value: str) -> str:
    """Return ``value`` if it is a legal id.

    Args:
        what: What the id names ("room", "peer" …), for the error.
        value: The id.

    Raises:
        IllegalId: It is not 1 to 64 of ``A-Z a-z 0-9 _ -``.
    """
    if not _ID.fullmatch(value):
        raise IllegalId(f"illegal {what} id: 1 to 64 of A-Z a-z 0-9 _ - are allowed", what=what, value=value[:80])
    return value


def is_id(value: str) -> bool:
    """Whether a value is a legal id."""
    return _ID.fullmatch(value) is not None


def derived_id(*parts: str | int) -> str:
    """Derive an id from ``parts``, always the same for the same parts: 32 hexadecimal digits.

    Whoever does a thing twice (a redelivery, two allocators at once) publishes it under the same
    id, so that NATS stores it once. Since NATS compares ids over the whole log and clients choose theirs,
    one of the parts must be something that no client can know beforehand, such as the id of the message
    that is answered: otherwise a client could use the id up, and what should carry it would never be stored.
    """
    text = "\x1f".join(str(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
