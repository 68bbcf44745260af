"""The pages for contributors name files, functions and tables that exist, and link to what exists."""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("docs/architecture.md", "docs/contributing.md")
LINKING = ("README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")))

_CODE = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"[\w./-]+\.py|(?:[\w-]+/)+")
_FUNCTION = re.compile(r"(?:(\w+)\.)?(\w+)\(\)")
_TABLE = re.compile(r"_?[A-Z]+(?:_[A-Z]+)*")
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
#: A list item or a paragraph.
_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=\s*(?:\d+\.|-|\|) ?)")


def found_path(name: str) -> Path | None:
    """A file or folder of the package or of the repository."""
    return next((path for base in (ROOT / "mafalda", ROOT) if (path := base / name).exists()), None)


@functools.cache
def defined(path: Path) -> frozenset[str]:
    """Functions, classes, methods as ``Class.method`` and ``method``, and assigned names of a module."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.ClassDef(name=name, body=body):
                methods = [it.name for it in body if isinstance(it, ast.FunctionDef | ast.AsyncFunctionDef)]
                names |= {name, *(f"{name}.{method}" for method in methods)}
    return frozenset(names)


def paragraphs(page: str) -> Iterator[list[str]]:
    """What is in backticks, for each paragraph; code blocks are left out."""
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for paragraph in _PARAGRAPH.split(text):
        yield _CODE.findall(paragraph)


def missing(page: str) -> Iterator[str]:
    """Files that do not exist, and names that none of the files of the same paragraph defines."""
    for codes in paragraphs(page):
        files = [code for code in codes if _FILE.fullmatch(code)]
        yield from (name for name in files if found_path(name) is None)
        here = {name for file in files if file.endswith(".py") and (path := found_path(file)) for name in defined(path)}
        for code in codes:
            if function := _FUNCTION.fullmatch(code):
                name = code.removesuffix("()")
                if name not in here and not (function[1] is None and function[2] in here):
                    yield f"{code}, in {files}"
            elif page == "docs/contributing.md" and _TABLE.fullmatch(code) and code not in here:
                yield f"{code}, in {files}"


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_exists(page: str) -> None:
    assert list(missing(page)) == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_functions(page: str) -> None:
    """Else the test above would pass for a page whose form has changed."""
    assert sum(bool(_FUNCTION.fullmatch(code)) for codes in paragraphs(page) for code in codes) > 10


@pytest.mark.parametrize("page", LINKING)
def test_a_page_links_to_what_exists(page: str) -> None:
    targets = _LINK.findall((ROOT / page).read_text(encoding="utf-8"))
    assert [target for target in targets if not ((ROOT / page).parent / target).exists()] == []


def test_the_packages_and_their_layers_are_those_of_the_code() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [layer.replace("mafalda.", "") for layer in contracts[0]["layers"]]
    assert "\n".join(f"    {layer}" for layer in layers) in page
    packages = {path.name for path in (ROOT / "mafalda").iterdir() if (path / "__init__.py").exists()} | {"errors"}
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == packages


def test_every_package_says_what_belongs_there() -> None:
    packages = sorted((ROOT / "mafalda").rglob("__init__.py"))
    assert packages
    assert [path for path in packages if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []
