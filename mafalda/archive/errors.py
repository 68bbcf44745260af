"""Errors of the archive."""

from __future__ import annotations

from mafalda.errors import Broken


class ArchiveUnavailable(Broken):
    """The folder or object store cannot be read or written now."""

    code = "archive-unavailable"


class ArchiveDamaged(Broken):
    """A file of the archive is missing or not what was written."""

    code = "archive-damaged"


class ArchiveGap(Broken):
    """The log begins after the end of the archive: what was between them is in neither."""

    code = "archive-gap"
