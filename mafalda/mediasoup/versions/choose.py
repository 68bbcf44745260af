"""Which schema a library speaks, judged by the version that it gives, and whether it can be served.

Asked at the start, before anything large is loaded. What does not belong here: translating (``translator``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mafalda.mediasoup.versions.numbers import parse

if TYPE_CHECKING:
    from pathlib import Path  # slow to import

#: The version of the schema that we speak ourselves, and the number of ``WORKER_RUNNING`` in it; here, so that nothing
#: more is loaded for a library of this version.
OURS, RUNNING = "3.27.1", 4

#: The first version whose channel is flatbuffers.
OLDEST = "3.13.0"


class CannotServe(Exception):
    """A version that is not served; the text is one sentence that names both versions."""


class ServedVersion(NamedTuple):
    """How a library is served.

    Attributes:
        version: What it said.
        schema: The published version whose schema it is taken to speak; that of ours if there is nothing to translate.
        running: The number that ``WORKER_RUNNING`` has in it.
        warning: What is uncertain about it, as a sentence; empty if nothing is.
        package: The npm package that carries its schema, if it is newer than any that we know.
    """

    version: str
    schema: str
    running: int
    warning: str = ""
    package: Path | None = None

    @property
    def is_ours(self) -> bool:
        """Whether messages go through as they are."""
        return self.schema == OURS


class Served(NamedTuple):
    """Published versions that speak the same schema, and how many tables, enums and unions are different from ours."""

    versions: tuple[str, ...]
    differences: int


def choose(version: str, near: str | Path | None = None) -> ServedVersion:
    """How to serve a library of this version.

    Args:
        version: As the library says it.
        near: Where the application runs: the npm package of a version that we do not know is looked for from there up.

    Raises:
        CannotServe: It cannot be served.
    """
    if version == OURS:
        return ServedVersion(version, OURS, RUNNING)
    from mafalda.mediasoup.fbs.differences import SCHEMAS

    try:
        numbers = parse(version)
    except ValueError:
        raise CannotServe(
            f"mafalda-worker {OURS} serves mediasoup from {OLDEST} on, and MEDIASOUP_VERSION is {version!r:.40}, which "
            "is no version: set MAFALDA_MEDIASOUP_VERSION to the one that the library was made for"
        ) from None
    if numbers < parse(OLDEST):
        raise CannotServe(
            f"mediasoup {version} cannot be served by mafalda-worker {OURS}, which speaks flatbuffers as mediasoup "
            f"does from {OLDEST} on"
        )
    newest = published()[-1]
    if numbers > parse(newest) and (newer := _newer(version, newest, near)):
        return newer
    below = [it for it in published() if parse(it) <= numbers][-1]
    schema, index = _schema_of(below)
    above = [it for it in published() if parse(it) > numbers]
    warning = ""
    if numbers != parse(below) and (not above or above[0] not in SCHEMAS[index][0]):
        warning = f"mediasoup {version} is not known to mafalda-worker {OURS} and is served as {below}"
    return ServedVersion(version, schema, _running(index), warning)


def _newer(version: str, newest: str, near: str | Path | None) -> ServedVersion | None:
    """By the schema of its own package; None: a patch of the newest, which is served like it without one."""
    from pathlib import Path

    from mafalda.mediasoup.versions.packages import NotReadable, find_package, schema_in

    package = None if near is None else find_package(version, Path(near))
    if package is None:
        if parse(version)[:2] == parse(newest)[:2]:
            return None
        raise CannotServe(
            f"mediasoup {version} cannot be served by mafalda-worker {OURS}: it is newer than {newest}, and its npm "
            "package, which has the schema, is not where the application runs"
        )
    try:
        schema = schema_in(package)
    except NotReadable as error:
        raise CannotServe(f"mediasoup {version} cannot be served by mafalda-worker {OURS}: {error}") from None
    running = schema.enums["FBS.Notification.Event"].number_of["WORKER_RUNNING"]
    warning = f"mediasoup {version} is not known to mafalda-worker {OURS} and is served by the schema in its package"
    return ServedVersion(version, version, running, warning, package)


def published() -> list[str]:
    """All versions whose schema is known, oldest first."""
    from mafalda.mediasoup.fbs.differences import SCHEMAS

    return [version for versions, *_ in reversed(SCHEMAS) for version in versions]


def served() -> list[Served]:
    """What is served, oldest first, schema by schema."""
    from mafalda.mediasoup.fbs.differences import SCHEMAS

    found: list[Served] = []
    names: set[str] = set()
    for versions, *parts in SCHEMAS:
        names |= {name for part in parts for name in part}
        found.append(Served(versions, len(names)))
    return found[::-1]


def _schema_of(version: str) -> tuple[str, int]:
    from mafalda.mediasoup.fbs.differences import SCHEMAS

    for index, (versions, *parts) in enumerate(SCHEMAS):
        if version in versions:
            is_ours = index == 0 and not any(parts)
            return (OURS if is_ours else version), index
    raise KeyError(version)


def _running(index: int) -> int:
    """As the nearest of this entry and the newer ones says that changes the events."""
    from mafalda.mediasoup.fbs.differences import SCHEMAS

    for _, _, enums, _ in SCHEMAS[index::-1]:
        if "FBS.Notification.Event" in enums:
            number: int = enums["FBS.Notification.Event"]["WORKER_RUNNING"]
            return number
    return RUNNING
