"""libsrtp's source: fetched from the archives that apt knows, checked, patched. apt's programs are small scripts."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from pathlib import Path

import pytest

from mafalda.mediasoup.install import libsrtp, pin
from mafalda.mediasoup.install.errors import SourceUnavailable
from mafalda.mediasoup.install.libsrtp import add_libsrtp
from mafalda.mediasoup.install.progress import silent

UPSTREAM, PATCHES = "libsrtp2_9.9.0.orig.tar.gz", "libsrtp2_9.9.0-1.debian.tar.xz"
PATCH = "--- a/srtp/srtp.c\n+++ b/srtp/srtp.c\n@@ -1 +1 @@\n-{old}\n+{new}\n"
# Asked: apt-helper [-o option]... download-file URL TARGET HASH
HELPER = """#!/bin/sh
while [ "$1" = -o ]; do shift 2; done
echo "$2" >> {asked}
cp {archive}/"${{2##*/}}" "$3"
"""
APT_GET = "#!/bin/sh\n[ $1 = indextargets ] && printf '%s\\n' {archives}\n"

pytestmark = pytest.mark.skipif(shutil.which("patch") is None, reason="no program `patch` here")


class Machine:
    """An archive with the source package, and an apt that knows it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.archive, self.cache, self.worker = folder / "archive", folder / "source", folder / "worker"
        self.asked = folder / "asked"
        self.log = io.StringIO()
        self._bin = folder / "bin"
        for made in (self.archive, self.worker / "subprojects", self._bin):
            made.mkdir(parents=True)
        self.program("apt-helper", HELPER.format(asked=self.asked, archive=self.archive))
        self.archives("http://a.example/debian/", "http://a.example/debian/", "http://b.example/debian")
        monkeypatch.setattr(libsrtp, "APT_HELPER", self._bin / "apt-helper")
        monkeypatch.setenv("PATH", str(self._bin), prepend=":")

    def program(self, name: str, script: str) -> None:
        (self._bin / name).write_text(script)
        (self._bin / name).chmod(0o755)

    def archives(self, *urls: str) -> None:
        self.program("apt-get", APT_GET.format(archives=" ".join(urls)))

    def add(self) -> str:
        """The patched source file."""
        add_libsrtp(self.worker, self.cache, silent, self.log)
        return (self.worker / "subprojects" / "libsrtp2" / "srtp" / "srtp.c").read_text()

    def urls(self) -> list[str]:
        return self.asked.read_text().split() if self.asked.exists() else []


def pack(file: Path, mode: str, content: dict[str, str]) -> str:
    """Returns: the archive's SHA-256."""
    with tarfile.open(file, mode) as archive:  # type: ignore[call-overload]
        for name, text in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path, monkeypatch)
    patches = {
        "debian/patches/series": "first.patch # a comment\n\nsecond.patch\n",
        "debian/patches/first.patch": PATCH.format(old="one", new="two"),
        "debian/patches/second.patch": PATCH.format(old="two", new="three"),
        "debian/control": "not used",
    }
    pinned = {
        UPSTREAM: pack(made.archive / UPSTREAM, "w:gz", {"libsrtp-9.9.0/srtp/srtp.c": "one\n"}),
        PATCHES: pack(made.archive / PATCHES, "w:xz", patches),
    }
    monkeypatch.setattr(pin, "LIBSRTP_SHA256", pinned)
    return made


def test_the_source_is_fetched_and_patched_in_the_order_of_the_series(machine: Machine) -> None:
    assert machine.add() == "three\n"
    pool = "http://a.example/debian/pool/main/libs/libsrtp2"
    assert machine.urls() == [f"{pool}/{UPSTREAM}", f"{pool}/{PATCHES}"]
    assert [path.name for path in (machine.worker).iterdir()] == ["subprojects"]


def test_what_is_there_is_used_and_what_is_damaged_is_fetched_again(machine: Machine) -> None:
    machine.add()
    shutil.rmtree(machine.worker / "subprojects" / "libsrtp2")
    machine.add()
    assert len(machine.urls()) == 2
    shutil.rmtree(machine.worker / "subprojects" / "libsrtp2")
    (machine.cache / UPSTREAM).write_bytes(b"damaged")
    assert machine.add() == "three\n"
    assert len(machine.urls()) == 3


def test_a_file_that_is_not_the_pinned_one_is_refused_from_every_archive(machine: Machine) -> None:
    (machine.archive / UPSTREAM).write_bytes(b"something else")
    with pytest.raises(SourceUnavailable) as caught:
        machine.add()
    assert caught.value.details == {"file": UPSTREAM}
    assert [url.split("/")[2] for url in machine.urls()] == ["a.example", "b.example"]
    assert list(machine.cache.iterdir()) == []


def test_without_an_archive_there_is_no_source(machine: Machine) -> None:
    machine.archives()
    with pytest.raises(SourceUnavailable, match="no Debian archive"):
        machine.add()


def test_without_apt_there_is_no_source(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libsrtp, "APT_HELPER", Path("/nonexistent/apt-helper"))
    with pytest.raises(SourceUnavailable, match="no Debian archive"):
        machine.add()


def test_a_patch_that_does_not_fit_leaves_nothing_behind(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {UPSTREAM: pack(machine.archive / UPSTREAM, "w:gz", {"libsrtp-9.9.0/srtp/srtp.c": "other\n"})}
    monkeypatch.setattr(pin, "LIBSRTP_SHA256", {**other, PATCHES: pin.LIBSRTP_SHA256[PATCHES]})
    with pytest.raises(SourceUnavailable) as caught:
        machine.add()
    assert caught.value.details == {"patch": "first.patch"}
    assert list((machine.worker / "subprojects").iterdir()) == []
