"""Libraries of other mediasoup versions: which are served, and the translation of their channel to our schema.

    choose(version)        how a library of this version is served, or why it is not; light
    translator_for(choice) the translation of one channel; None where there is nothing to translate

Stands alone: bytes of the library's version in, bytes of our version out, and back. What does not belong here: pipes,
processes, the fleet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mafalda.mediasoup.versions.choose import OURS, CannotServe, Served, ServedVersion, choose, served
from mafalda.mediasoup.versions.numbers import parse

if TYPE_CHECKING:
    from mafalda.mediasoup.versions.translator import Translator

__all__ = ["OURS", "CannotServe", "Served", "ServedVersion", "choose", "served", "translator_for"]

#: From here on workers have a NotFoundError.
_NOT_FOUND_SINCE = (3, 21, 0)


def translator_for(choice: ServedVersion) -> Translator | None:
    """The translation between a library and a worker of ours; None if both speak the same schema."""
    if choice.is_ours:
        return None
    from mafalda.mediasoup.versions.packages import schema_in
    from mafalda.mediasoup.versions.schemas import schema_of
    from mafalda.mediasoup.versions.translator import Translator

    schema = schema_of(choice.schema) if choice.package is None else schema_in(choice.package)
    return Translator(schema, knows_not_found=parse(choice.version) >= _NOT_FOUND_SINCE)
