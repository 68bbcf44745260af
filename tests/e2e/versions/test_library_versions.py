"""Applications with other versions of mediasoup's library: each version's own tests through the drop-in, on a fleet.

Three versions here; ``make test-versions`` (``MAFALDA_TEST_VERSIONS=all``) runs every minor version's.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mafalda.mediasoup.codec.schema import Schema
from mafalda.mediasoup.versions.generate import read_schema
from mafalda.mediasoup.versions.schemas import schema_of
from tests.e2e.conftest import Up
from tests.e2e.node.conftest import INSTALL_TIMEOUT_S, through_dropin
from tests.e2e.versions import suites

FEW = ("3.13.24", "3.19.22", "3.26.0")
CHOSEN = suites.VERSIONS if os.environ.get("MAFALDA_TEST_VERSIONS") == "all" else FEW


@pytest.fixture(scope="session")
def modules() -> Path:
    return suites.modules()


@pytest.mark.timeout(INSTALL_TIMEOUT_S + suites.TIMEOUT_S + 60)
@pytest.mark.parametrize("version", CHOSEN)
def test_a_version_s_own_tests_pass(version: str, modules: Path, fleet: Up, tmp_path: Path) -> None:
    outcome = suites.run_suite(modules, version, tmp_path, through_dropin(fleet))
    print(f"mediasoup {version}: {outcome}")
    assert outcome.failed == {}
    assert len(outcome.passed) > 140


@pytest.mark.parametrize("version", CHOSEN)
def test_the_schema_is_that_of_the_package(version: str, modules: Path) -> None:
    carried = read_schema(suites.package(modules, version))
    known = schema_of(version)
    compared = Schema(*carried)
    for name, table in compared.tables.items():
        fields = [field and (field.name, field.kind, field.default) for field in table.by_slot]
        assert [field and (field.name, field.kind, field.default) for field in known.tables[name].by_slot] == fields
    assert {name: enum.number_of for name, enum in compared.enums.items()}.items() <= {
        name: enum.number_of for name, enum in known.enums.items()
    }.items()
