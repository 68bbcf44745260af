"""The cache of built workers: its key, its publishing, its checksum, its lock."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from mafalda.mediasoup.install import cache, mends, pin
from mafalda.mediasoup.install.cache import CacheEntry
from mafalda.mediasoup.install.errors import InstallBusy


@pytest.fixture(autouse=True)
def fresh_key() -> Iterator[None]:
    cache.content_key.cache_clear()
    yield
    cache.content_key.cache_clear()


@pytest.fixture
def entry(tmp_path: Path) -> CacheEntry:
    root = tmp_path / "cache"
    root.mkdir()
    return CacheEntry(root=root, key="0123456789abcdef")


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    path = tmp_path / "built"
    path.write_bytes(b"\x7fELF a worker")
    return path


def test_the_key_is_stable_and_fits_a_folder_name() -> None:
    first = cache.content_key()
    cache.content_key.cache_clear()
    assert cache.content_key() == first
    assert len(first) == 16
    assert set(first) <= set("0123456789abcdef")


def test_a_worker_with_other_options_has_an_entry_of_its_own() -> None:
    plain, sanitized = cache.current_entry(), cache.current_entry(extra_options=pin.SANITIZE_OPTIONS)
    assert plain.folder != sanitized.folder
    assert sanitized.options == (*pin.MESON_OPTIONS, *pin.SANITIZE_OPTIONS)


@pytest.mark.parametrize("folder", ["OVERLAY", "NATIVE"])
def test_the_key_changes_with_a_files_content(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, folder, tmp_path)
    (tmp_path / "a.h").write_text("one")
    first = cache.content_key()
    cache.content_key.cache_clear()
    (tmp_path / "a.h").write_text("two")
    assert cache.content_key() != first


def test_the_key_changes_when_content_moves_to_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "OVERLAY", tmp_path)
    (tmp_path / "a.h").write_text("one")
    first = cache.content_key()
    cache.content_key.cache_clear()
    (tmp_path / "a.h").rename(tmp_path / "b.h")
    assert cache.content_key() != first


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKER_VERSION", "3.27.2"),
        ("SOURCE_INTEGRITY", "sha512-other"),
        ("FLATC_VERSION", "1"),
        ("MESON_OPTIONS", ("--buildtype=debug",)),
        ("LIBSRTP_SHA256", {"libsrtp2_2.5.0.orig.tar.gz": "other"}),
    ],
)
def test_the_key_changes_with_what_is_pinned(name: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cache.content_key()
    cache.content_key.cache_clear()
    monkeypatch.setattr(pin, name, value)
    assert cache.content_key() != first


def test_the_key_changes_with_the_mends(monkeypatch: pytest.MonkeyPatch) -> None:
    first = cache.content_key()
    cache.content_key.cache_clear()
    monkeypatch.setattr(mends, "MENDS", mends.MENDS[1:])
    assert cache.content_key() != first


def test_the_root_follows_xdg_and_ignores_a_relative_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    in_home = tmp_path / "home" / ".cache" / "mafalda" / "mediasoup-worker"
    assert cache.cache_root({}) == in_home
    assert cache.cache_root({"XDG_CACHE_HOME": "relative/cache"}) == in_home
    assert cache.cache_root({"XDG_CACHE_HOME": "/x"}) == Path("/x/mafalda/mediasoup-worker")


def test_a_published_worker_is_sound_executable_and_whole(entry: CacheEntry, binary: Path) -> None:
    assert entry.state() == "missing"
    path = entry.publish(binary, "{}\n")
    assert path == entry.binary
    assert path.read_bytes() == binary.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o755
    assert entry.state() == "sound"
    assert sorted(file.name for file in entry.folder.iterdir()) == [
        "build.json",
        "mediasoup-worker",
        "mediasoup-worker.sha256",
    ]
    assert [folder.name for folder in entry.root.iterdir()] == [entry.name]


def test_publishing_replaces_what_was_there(entry: CacheEntry, binary: Path) -> None:
    entry.publish(binary, "{}\n")
    binary.write_bytes(b"another worker")
    entry.publish(binary, "{}\n")
    assert entry.binary.read_bytes() == b"another worker"
    assert entry.state() == "sound"
    assert not (entry.folder / "replaced").exists()


def test_a_failed_publish_leaves_the_old_worker(entry: CacheEntry, binary: Path, tmp_path: Path) -> None:
    entry.publish(binary, "{}\n")
    with pytest.raises(FileNotFoundError):
        entry.publish(tmp_path / "nothing", "{}\n")
    assert entry.state() == "sound"
    assert [folder.name for folder in entry.root.iterdir()] == [entry.name]


def test_a_changed_binary_is_damaged(entry: CacheEntry, binary: Path) -> None:
    path = entry.publish(binary, "{}\n")
    path.write_bytes(path.read_bytes()[:-1])
    assert entry.state() == "damaged"


@pytest.mark.parametrize("content", ["", "not a checksum\n", "\xff"])
def test_an_unreadable_checksum_is_damage(entry: CacheEntry, binary: Path, content: str) -> None:
    path = entry.publish(binary, "{}\n")
    cache.checksum_path(path).write_text(content, encoding="latin-1")
    assert entry.state() == "damaged"


def test_a_missing_checksum_is_damage(entry: CacheEntry, binary: Path) -> None:
    cache.checksum_path(entry.publish(binary, "{}\n")).unlink()
    assert entry.state() == "damaged"


def test_a_binary_that_cannot_be_executed_is_damage(entry: CacheEntry, binary: Path) -> None:
    entry.publish(binary, "{}\n").chmod(0o644)
    assert entry.state() == "damaged"


def test_the_lock_excludes_and_says_that_it_waits(entry: CacheEntry) -> None:
    waits: list[str] = []
    with (entry.root / f"{entry.name}.lock").open("a+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with (
            pytest.raises(InstallBusy) as caught,
            entry.locked(timeout_s=0.0, on_wait=lambda: waits.append("waiting")),
        ):
            pytest.fail("the lock was held by another")
        assert caught.value.details["lock"].endswith(".lock")
    assert waits == ["waiting"]
    with entry.locked(timeout_s=0.0, on_wait=lambda: waits.append("again")):
        pass
    assert waits == ["waiting"]


def test_a_workspace_goes_away_and_takes_a_killed_builds_with_it(entry: CacheEntry) -> None:
    left = entry.root / f"work-{entry.key}-left"
    of_another_key = entry.root / "work-fedcba9876543210-x"
    for folder in (left, of_another_key):
        folder.mkdir()
    with entry.workspace() as workspace:
        (workspace / "file").write_text("x")
        assert not left.exists()
    assert not workspace.exists()
    assert of_another_key.exists()
