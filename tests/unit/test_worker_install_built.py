"""``build.json``: what doctor learns from it."""

from __future__ import annotations

import json
from pathlib import Path

from mafalda.mediasoup.install.built import Part, description, lacks
from mafalda.mediasoup.install.cache import CacheEntry
from mafalda.monitor.checkup import check_machine


def worker(folder: Path, *, libsrtp: Part, batch: Part) -> Path:
    content = description(
        CacheEntry(folder, "key"), libsrtp=libsrtp, batch=batch, phases_s={"compile": 1.0}, self_test={}
    )
    (folder / "build.json").write_text(content)
    return folder / "mediasoup-worker"


def test_a_worker_that_is_as_meant_lacks_nothing(tmp_path: Path) -> None:
    binary = worker(tmp_path, libsrtp=Part(as_meant=True), batch=Part(as_meant=True))
    assert list(lacks(binary)) == []
    info = json.loads((tmp_path / "build.json").read_text())
    assert info["libsrtp"]["as_meant"] is True
    assert all(len(sha256) == 64 for sha256 in info["libsrtp"]["source"].values())


def test_what_it_lacks_is_told_with_its_reason_and_its_mend(tmp_path: Path) -> None:
    binary = worker(tmp_path, libsrtp=Part(as_meant=False, reason="no archive"), batch=Part(as_meant=True))
    (lack,) = lacks(binary)
    assert "a fifth more CPU time (no archive)" in lack.what
    assert lack.mend.endswith("mafalda worker install --force")
    binary = worker(tmp_path, libsrtp=Part(as_meant=True), batch=Part(as_meant=False, reason="packets were lost"))
    (lack,) = lacks(binary)
    assert "(packets were lost)" in lack.what


def test_doctor_warns_of_what_it_lacks(tmp_path: Path) -> None:
    binary = worker(tmp_path, libsrtp=Part(as_meant=False, reason="no archive"), batch=Part(as_meant=True))
    binary.touch(mode=0o755)
    (finding,) = [it for it in check_machine(binary) if it.check == "mediasoup-worker"]
    assert (finding.health, finding.mend) == ("warning", next(lacks(binary)).mend)
    assert "no archive" in finding.found
    worker(tmp_path, libsrtp=Part(as_meant=True), batch=Part(as_meant=True))
    (finding,) = [it for it in check_machine(binary) if it.check == "mediasoup-worker"]
    assert finding.health == "ok"


def test_of_a_worker_of_another_origin_nothing_is_known(tmp_path: Path) -> None:
    assert list(lacks(tmp_path / "mediasoup-worker")) == []
    for content in ("", "[]", "{}", '{"libsrtp": null, "batch": 1}'):
        (tmp_path / "build.json").write_text(content)
        assert list(lacks(tmp_path / "mediasoup-worker")) == []
