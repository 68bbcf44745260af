"""The generator: rendering keeps the schema, and the pinned source renders to the committed module."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mafalda.mediasoup.codec.generate import OUTPUT, compile_schemas, render
from mafalda.mediasoup.fbs import schema as generated
from mafalda.mediasoup.install.cache import cache_root
from mafalda.mediasoup.install.source import unpack_worker
from tests.unit.mediasoup.fbs_text import fbs_text


def pinned_source(folder: Path) -> Path | None:
    """Mediasoup's source: ``MEDIASOUP_SOURCE``, or the package from which a worker was built here."""
    if named := os.environ.get("MEDIASOUP_SOURCE"):
        return Path(named)
    name = f"mediasoup-{generated.VERSION}.tgz"
    tarball = next(cache_root().rglob(name), None) if cache_root().is_dir() else None
    if tarball is None:
        return None
    unpack_worker(tarball, folder / "worker")
    return folder


def test_rendering_keeps_the_schema(tmp_path: Path) -> None:
    (tmp_path / "worker" / "fbs").mkdir(parents=True)
    (tmp_path / "worker" / "fbs" / "message.fbs").write_text(fbs_text())
    module: dict[str, Any] = {}
    exec(render(compile_schemas(tmp_path), "3.27.1"), module)
    assert module["TABLES"] == generated.TABLES
    assert module["ENUMS"] == generated.ENUMS
    assert module["UNIONS"] == generated.UNIONS


def test_the_committed_schema_is_current(tmp_path: Path) -> None:
    source = pinned_source(tmp_path)
    if source is None:
        pytest.skip("mediasoup's source is not here: set MEDIASOUP_SOURCE to compare")
    assert render(compile_schemas(source), generated.VERSION) == OUTPUT.read_text()


def test_a_folder_without_schemas_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        compile_schemas(tmp_path)
