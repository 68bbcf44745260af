"""``schemas/asyncapi.yaml`` is AsyncAPI 3.1, as AsyncAPI's own parser reads it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from mafalda.contract.messages.registry import PAYLOADS
from tests.languages.conftest import BUILD_TIMEOUT_S, ROOT, node_program

TIMEOUT_S = 120


def parse(document: Path) -> subprocess.CompletedProcess[str]:
    command = node_program(Path(__file__).parent / "asyncapi", "check.mjs")
    return subprocess.run([*command, str(document)], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.mark.timeout(BUILD_TIMEOUT_S + TIMEOUT_S)
def test_the_document_has_no_fault() -> None:
    done = parse(ROOT / "schemas" / "asyncapi.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["version"], found["messages"]) == ("3.1.0", len(PAYLOADS))


@pytest.mark.timeout(BUILD_TIMEOUT_S + TIMEOUT_S)
def test_the_parser_finds_faults(tmp_path: Path) -> None:
    broken = tmp_path / "asyncapi.yaml"
    broken.write_text("asyncapi: 3.1.0\ninfo: {title: x}\n")
    assert parse(broken).returncode == 1
