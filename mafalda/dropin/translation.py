"""The library's messages in its own version's schema, between the pipes and the virtual worker.

Where the library's version is ours, nothing is in between. What does not belong here: the translation itself
(``mafalda.mediasoup.versions``).
"""

from __future__ import annotations

import os
from collections.abc import Callable

from mafalda.mediasoup.versions import choose, translator_for

Take = Callable[[bytes], None]


def translated(version: str, to_worker: Take, to_library: Take) -> tuple[Take, Take]:
    """The two directions, each as it is given what the other side has said.

    Args:
        version: The library's; empty: it speaks our schema.
        to_worker: Takes messages of our schema.
        to_library: Takes messages of the library's.

    Returns:
        What takes the library's messages, and what takes the worker's.
    """
    translator = translator_for(choose(version, os.getcwd())) if version else None
    if translator is None:
        return to_worker, to_library

    def from_library(payload: bytes) -> None:
        said = translator.from_library(payload)
        if said.to_worker is not None:
            to_worker(said.to_worker)
        if said.to_library is not None:
            to_library(said.to_library)

    def from_worker(payload: bytes) -> None:
        for_library = translator.to_library(payload)
        if for_library is not None:
            to_library(for_library)

    return from_library, from_worker
