"""Getting and unpacking the worker's source."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from mafalda.mediasoup.install import pin, source
from mafalda.mediasoup.install.errors import SourceUnavailable
from mafalda.mediasoup.install.progress import Step, silent

TARBALL_PATH = f"/mediasoup/-/mediasoup-{pin.WORKER_VERSION}.tgz"


def packed(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return buffer.getvalue()


PACKAGE = packed({"package/worker/meson.build": b"project()", "package/package.json": b"{}"})


class Registry(http.server.BaseHTTPRequestHandler):
    """Serves ``content`` for the tarball's path, and counts the requests."""

    content = PACKAGE
    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        found = self.path == "/npm" + TARBALL_PATH
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(self.content if found else b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Registry]]:
    handler = type("OneRegistry", (Registry,), {"requests": 0})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="registry")
        thread.start()
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_address[1]}/npm/")
        monkeypatch.setenv("PATH", str(tmp_path / "no-npm-here"))
        monkeypatch.setattr(pin, "SOURCE_INTEGRITY", integrity(PACKAGE))
        yield handler
        server.shutdown()
        thread.join()


def integrity(content: bytes) -> str:
    return "sha512-" + b64encode(hashlib.sha512(content).digest()).decode()


def test_without_npm_the_tarball_comes_from_the_registry_and_is_kept(registry: type[Registry], tmp_path: Path) -> None:
    folder = tmp_path / "source"
    first = source.obtain_tarball(folder, silent)
    assert first.read_bytes() == PACKAGE
    assert source.obtain_tarball(folder, silent) == first
    assert registry.requests == 1
    assert list(folder.iterdir()) == [first]


def test_a_damaged_tarball_is_fetched_again(registry: type[Registry], tmp_path: Path) -> None:
    tarball = source.obtain_tarball(tmp_path, silent)
    tarball.write_bytes(b"damaged")
    assert source.obtain_tarball(tmp_path, silent).read_bytes() == PACKAGE
    assert registry.requests == 2


def test_another_package_than_the_pinned_one_is_refused_and_not_kept(
    registry: type[Registry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pin, "SOURCE_INTEGRITY", integrity(b"the pinned one"))
    with pytest.raises(SourceUnavailable, match="not the pinned one") as caught:
        source.obtain_tarball(tmp_path, silent)
    assert caught.value.details["actual"] == integrity(PACKAGE)
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_registry_says_what_to_check(
    registry: type[Registry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9/")
    with pytest.raises(SourceUnavailable, match="NPM_CONFIG_REGISTRY") as caught:
        source.obtain_tarball(tmp_path, silent)
    assert "127.0.0.1:9" in caught.value.reason


def test_a_failing_npm_falls_back_to_the_registry(
    registry: type[Registry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text("#!/bin/sh\necho E403 >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent))
    messages: list[str] = []

    def progress(step: Step) -> None:
        messages.append(step.message)

    assert source.obtain_tarball(tmp_path / "source", progress).read_bytes() == PACKAGE
    assert messages[0].startswith("npm pack")
    assert messages[1].startswith("downloading http://127.0.0.1")


def test_npm_is_used_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "packed").write_bytes(PACKAGE)
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f'#!/bin/sh\n[ "$1 $2" = "pack mediasoup@{pin.WORKER_VERSION}" ] || exit 2\n'
                   f'/bin/cp "{tmp_path}/packed" mediasoup.tgz\n')  # fmt: skip
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent))
    monkeypatch.setattr(pin, "SOURCE_INTEGRITY", integrity(PACKAGE))
    assert source.obtain_tarball(tmp_path / "source", silent).read_bytes() == PACKAGE


def test_only_an_http_registry_is_asked(
    registry: type[Registry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"file://{tmp_path}")
    with pytest.raises(SourceUnavailable, match="http or https"):
        source.obtain_tarball(tmp_path, silent)


def test_the_registry_is_npms(tmp_path: Path) -> None:
    assert source.registry_url({}, tmp_path) == pin.DEFAULT_REGISTRY
    (tmp_path / ".npmrc").write_text(
        "; a comment\n//host/:_authToken=secret\nregistry = https://mirror.example/npm/\nfund=false\n"
    )
    assert source.registry_url({}, tmp_path) == "https://mirror.example/npm/"
    assert source.registry_url({"npm_config_registry": "https://b/"}, tmp_path) == "https://b/"
    both = {"NPM_CONFIG_REGISTRY": "https://a/", "npm_config_registry": "https://b/"}
    assert source.registry_url(both, tmp_path) == "https://a/"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"@scope:registry=https://x/\n", b"fund=false\n"])
def test_an_odd_npmrc_means_the_default(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".npmrc").write_bytes(content)
    assert source.registry_url({}, tmp_path) == pin.DEFAULT_REGISTRY


def test_only_the_workers_regular_files_are_unpacked(tmp_path: Path) -> None:
    tarball = tmp_path / "package.tgz"
    tarball.write_bytes(
        packed(
            {
                "package/worker/src/a.cpp": b"a",
                "package/node/lib/index.js": b"js",
                "package/workers/b.cpp": b"b",
            },
            links={"package/worker/link": "/etc/passwd"},
        )
    )
    worker = source.unpack_worker(tarball, tmp_path / "worker")
    assert [path.relative_to(worker).as_posix() for path in sorted(worker.rglob("*"))] == ["src", "src/a.cpp"]


def test_a_path_that_leaves_the_package_is_refused(tmp_path: Path) -> None:
    tarball = tmp_path / "package.tgz"
    tarball.write_bytes(packed({"package/worker/../../../escaped": b"x"}))
    with pytest.raises(SourceUnavailable, match="leaves it"):
        source.unpack_worker(tarball, tmp_path / "a" / "b" / "worker")
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("content", [b"", b"not an archive", PACKAGE[:60]], ids=["empty", "text", "truncated"])
def test_a_broken_archive_is_an_error(tmp_path: Path, content: bytes) -> None:
    tarball = tmp_path / "package.tgz"
    tarball.write_bytes(content)
    with pytest.raises(SourceUnavailable, match="cannot be unpacked"):
        source.unpack_worker(tarball, tmp_path / "worker")
