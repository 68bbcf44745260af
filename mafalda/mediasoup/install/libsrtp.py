"""libsrtp with OpenSSL's crypto, from the distribution's source package: pinned, patched, linked into the worker.

Debian builds its libsrtp with NSS, whose AES-GCM costs the worker a fifth of its speed. The source package is the
same, with Debian's patches, and is fetched with apt's own helper from the archives that apt uses here: no root, no
``deb-src`` line. Where there is none, the distribution's library is used and ``mafalda doctor`` says what that costs.
Why, and who watches its advisories: ``docs/worker.md``.

What does not belong here: how it is compiled (the overlay's ``meson.build``).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path, PurePosixPath
from typing import TextIO

from mafalda.mediasoup.install import pin
from mafalda.mediasoup.install.cache import sha256_of
from mafalda.mediasoup.install.errors import SourceUnavailable
from mafalda.mediasoup.install.progress import Progress, Step
from mafalda.mediasoup.install.source import unpack
from mafalda.mediasoup.install.system import install_if_allowed, update_package_lists

APT_HELPER = Path("/usr/lib/apt/apt-helper")
SUBPROJECT = "libsrtp2"
"""The folder under ``subprojects/`` that the overlay of libsrtp looks for."""

_DOWNLOAD_TIMEOUT_S = 120.0
_APT_OPTIONS = ("-o", "Acquire::http::Timeout=20", "-o", "Acquire::Retries=1")


def add_libsrtp(worker: Path, folder: Path, progress: Progress, log: TextIO) -> None:
    """Put libsrtp's patched source under the worker's ``subprojects/``.

    Args:
        worker: The unpacked worker's folder.
        folder: Where the source package's files are kept.
        progress: Told what is being done.
        log: Gets what apt and patch say.

    Raises:
        SourceUnavailable: no archive of this machine has the pinned source package, or a patch does not fit. Nothing
            is left in ``subprojects/`` then.
    """
    upstream, patches = obtain_source_package(folder, progress, log)
    target = worker / "subprojects" / SUBPROJECT
    try:
        unpack(upstream, _top_folder(upstream), target)
        with tempfile.TemporaryDirectory(dir=worker) as scratch:
            _apply_patches(unpack(patches, PurePosixPath("debian/patches"), Path(scratch)), target, log)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def obtain_source_package(folder: Path, progress: Progress, log: TextIO) -> list[Path]:
    """The source package's files in ``folder``, in the order of the pin; what is there already is used if it is sound.

    Raises:
        SourceUnavailable: a file cannot be had, or is not the pinned one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [_obtain(folder / name, sha256, progress, log) for name, sha256 in pin.LIBSRTP_SHA256.items()]


def _obtain(file: Path, sha256: str, progress: Progress, log: TextIO) -> Path:
    if file.is_file() and sha256_of(file) == sha256:
        return file
    for archive in _archives(log):
        url = f"{archive.rstrip('/')}/{pin.LIBSRTP_POOL}/{file.name}"
        progress(Step("source", f"downloading {url}"))
        with tempfile.TemporaryDirectory(prefix="download-", dir=file.parent) as scratch:
            fetched = Path(scratch) / file.name
            helper = [str(APT_HELPER), *_APT_OPTIONS, "download-file", url, str(fetched), f"SHA256:{sha256}"]
            if _run(helper, log) is not None and fetched.is_file() and sha256_of(fetched) == sha256:
                fetched.replace(file)
                return file
    raise SourceUnavailable("no Debian archive of this machine has the pinned source of libsrtp", file=file.name)


def _archives(log: TextIO) -> list[str]:
    """The Debian archives that apt uses here; root gets apt's lists first if there are none."""
    if not APT_HELPER.exists():
        return []
    found = _listed_archives(log)
    if not found and update_package_lists(log):
        found = _listed_archives(log)
    return found


def _listed_archives(log: TextIO) -> list[str]:
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"]
    return list(dict.fromkeys((_run(command, log) or "").split()))


def _top_folder(tarball: Path) -> PurePosixPath:
    """``libsrtp-2.5.0`` of ``libsrtp2_2.5.0.orig.tar.gz``."""
    return PurePosixPath("libsrtp-" + tarball.name.removesuffix(".orig.tar.gz").rpartition("_")[2])


def _apply_patches(patches: Path, target: Path, log: TextIO) -> None:
    if shutil.which("patch") is None and not install_if_allowed("patch", log):
        raise SourceUnavailable("Debian's patches for libsrtp need the program `patch`")
    for line in (patches / "series").read_text(encoding="utf-8").splitlines():
        name = line.partition("#")[0].strip()
        if name and _run(["patch", "-p1", "-d", str(target), "-i", str(patches / name)], log) is None:
            raise SourceUnavailable("a patch of Debian's does not fit libsrtp", patch=name)


def _run(command: list[str], log: TextIO) -> str | None:
    """What it printed; ``None`` if it failed."""
    log.write(f"$ {' '.join(command)}\n")
    try:
        ended = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_DOWNLOAD_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.write(f"{error}\n")
        return None
    log.write(ended.stdout + ended.stderr)
    return ended.stdout if ended.returncode == 0 else None
