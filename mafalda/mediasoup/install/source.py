"""Getting the worker's source: mediasoup's npm package, checked against the pinned integrity, unpacked safely.

What does not belong here: what is laid over the source (``overlays``).
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from mafalda.mediasoup.install import pin
from mafalda.mediasoup.install.errors import SourceUnavailable
from mafalda.mediasoup.install.progress import Progress, Step

_WORKER_PREFIX = PurePosixPath("package/worker")
_NPMRC_REGISTRY = re.compile(r"^\s*registry\s*=\s*(\S+)", re.MULTILINE)
_NPM_TIMEOUT_S = 180.0
_HTTP_TIMEOUT_S = 30.0
_MAX_TARBALL_BYTES = 64 * 1024 * 1024


def obtain_tarball(folder: Path, progress: Progress) -> Path:
    """The pinned package's tarball in ``folder``; what is there already is used if its integrity holds.

    Raises:
        SourceUnavailable: neither npm nor a direct download gave the pinned package.
    """
    tarball = folder / f"mediasoup-{pin.WORKER_VERSION}.tgz"
    if tarball.is_file() and integrity_of(tarball) == pin.SOURCE_INTEGRITY:
        progress(Step("source", f"using {tarball}"))
        return tarball
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="download-", dir=folder) as scratch:
        fetched = _fetch(Path(scratch), progress)
        actual = integrity_of(fetched)
        if actual != pin.SOURCE_INTEGRITY:
            raise SourceUnavailable(
                f"the registry's mediasoup {pin.WORKER_VERSION} is not the pinned one",
                expected=pin.SOURCE_INTEGRITY,
                actual=actual,
            )
        fetched.replace(tarball)
    return tarball


def _fetch(scratch: Path, progress: Progress) -> Path:
    reasons: list[str] = []
    npm = shutil.which("npm")
    if npm:
        progress(Step("source", f"npm pack mediasoup@{pin.WORKER_VERSION}"))
        try:
            return _npm_pack(npm, scratch)
        except SourceUnavailable as error:
            reasons.append(error.reason)
    url = f"{registry_url().rstrip('/')}/mediasoup/-/mediasoup-{pin.WORKER_VERSION}.tgz"
    progress(Step("source", f"downloading {url}"))
    try:
        return _download(url, scratch / "download.tgz")
    except SourceUnavailable as error:
        reasons.append(error.reason)
    raise SourceUnavailable(
        f"cannot get mediasoup {pin.WORKER_VERSION} from npm. Check the network or the registry setting "
        "(NPM_CONFIG_REGISTRY, .npmrc), or name a worker with MEDIASOUP_WORKER_BIN. " + "; ".join(reasons)
    )


def _npm_pack(npm: str, scratch: Path) -> Path:
    command = [npm, "pack", f"mediasoup@{pin.WORKER_VERSION}", "--ignore-scripts", "--silent"]
    try:
        ended = subprocess.run(
            command, cwd=scratch, capture_output=True, text=True, timeout=_NPM_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceUnavailable(f"npm pack: {error}") from error
    packed = sorted(scratch.glob("*.tgz"))
    if ended.returncode != 0 or len(packed) != 1:
        words = (ended.stderr or ended.stdout).strip()[-500:]
        raise SourceUnavailable(f"npm pack left with {ended.returncode}: {words}")
    return packed[0]


def _download(url: str, target: Path) -> Path:
    if not url.startswith(("https://", "http://")):
        raise SourceUnavailable(f"{url}: the registry must be an http or https address")
    try:
        with urllib.request.urlopen(url, timeout=_HTTP_TIMEOUT_S) as answer:
            content = answer.read(_MAX_TARBALL_BYTES + 1)
    except (OSError, urllib.error.URLError) as error:
        raise SourceUnavailable(f"{url}: {error}") from error
    if len(content) > _MAX_TARBALL_BYTES:
        raise SourceUnavailable(f"{url}: more than {_MAX_TARBALL_BYTES} bytes")
    target.write_bytes(content)
    return target


def registry_url(environ: Mapping[str, str] = os.environ, home: Path | None = None) -> str:
    """The registry that npm would use: the environment, then ``~/.npmrc``, then the public one."""
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        if environ.get(name):
            return environ[name]
    try:
        npmrc = ((home or Path.home()) / ".npmrc").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return pin.DEFAULT_REGISTRY
    match = _NPMRC_REGISTRY.search(npmrc)
    return match[1] if match else pin.DEFAULT_REGISTRY


def integrity_of(path: Path) -> str:
    """A file's integrity as npm writes it: ``sha512-`` and the digest in base 64."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    return "sha512-" + base64.b64encode(digest).decode("ascii")


def unpack_worker(tarball: Path, target: Path) -> Path:
    """Unpack the npm package's ``worker`` folder into ``target``.

    Returns:
        The worker's folder.

    Raises:
        SourceUnavailable: as ``unpack``.
    """
    return unpack(tarball, _WORKER_PREFIX, target)


def unpack(tarball: Path, prefix: PurePosixPath, target: Path) -> Path:
    """Unpack what is below one folder of a compressed archive, regular files only, into ``target``.

    Returns:
        ``target``.

    Raises:
        SourceUnavailable: the archive cannot be read, or would write outside of ``target``.
    """
    try:
        with tarfile.open(tarball, "r:*") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if not member.isfile() or not name.is_relative_to(prefix):
                    continue
                if ".." in name.parts:
                    raise SourceUnavailable("the package holds a path that leaves it", path=member.name)
                content = archive.extractfile(member)
                if content is None:
                    continue
                place = target / name.relative_to(prefix)
                place.parent.mkdir(parents=True, exist_ok=True)
                with content, place.open("wb") as file:
                    shutil.copyfileobj(content, file)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise SourceUnavailable("the package cannot be unpacked", tarball=str(tarball), cause=str(error)) from error
    return target
