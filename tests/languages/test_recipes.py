"""The recipes of docs/security.md in languages that need a toolchain of their own mint tokens that are taken."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.go.conftest import go_environment, install_go
from tests.languages.conftest import BUILD_TIMEOUT_S, CACHE
from tests.unit.auth.test_recipes import check_minted, recipe


@pytest.mark.timeout(BUILD_TIMEOUT_S)
def test_the_recipe_in_go_mints_a_token(tmp_path: Path) -> None:
    root, program = CACHE.parent / "go", tmp_path / "mint.go"
    program.write_text(recipe("go"))
    check_minted([str(install_go(root)), "run", str(program)], **go_environment(root))


@pytest.mark.timeout(BUILD_TIMEOUT_S)
def test_the_recipe_in_java_mints_a_token(tmp_path: Path) -> None:
    java = shutil.which("java")
    if java is None or shutil.which("javac") is None:
        pytest.skip("no Java: java and javac 17 are not on the PATH (Debian: openjdk-17-jdk-headless)")
    program = tmp_path / "Mint.java"
    program.write_text(recipe("java"))
    check_minted([java, str(program)])
