"""Which intents were meant for an earlier place of their peer. Pure.

An intent may name its place by generation. Of one that does not, the log knows: what was stored before the ``join``
result of the present place was published by somebody who knew the former place only.
"""

from __future__ import annotations

from mafalda.contract.messages.commands import PlacePeer
from mafalda.contract.messages.intents import ABOUT_THE_PEER
from mafalda.errors import BadInput, StaleGeneration
from mafalda.workers.core.instructions import Entry


def check_place(entry: Entry, command: PlacePeer, placed_seq: int) -> None:
    """Check that an intent is meant for its peer's present place.

    A peer that has not joined anywhere yet has no earlier place: what it sent behind its ``join`` is for this one.

    Args:
        entry: The intent.
        command: What placed the peer.
        placed_seq: The log sequence of the place's ``join`` result.

    Raises:
        StaleGeneration: It was meant for an earlier place.
        BadInput: The generation that it names is no number.
    """
    if entry.generation is not None:
        if not (entry.generation.isascii() and entry.generation.isdigit()):
            raise BadInput("Mafalda-Generation must be a number", value=entry.generation[:32])
        if int(entry.generation[:20]) < command.generation:
            raise StaleGeneration("it names an earlier place", now=command.generation, named=entry.generation[:20])
    had_a_place = command.cause != "join" and command.join_seq is None
    if had_a_place and entry.seq < placed_seq and not isinstance(entry.message.data, ABOUT_THE_PEER):
        raise StaleGeneration("it was sent before the peer had this place", now=command.generation)
