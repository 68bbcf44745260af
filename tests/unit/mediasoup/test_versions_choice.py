"""Which versions are served, by which schema, and the sentences for those that are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mafalda.cli.main import main
from mafalda.mediasoup.channel import messages, worker_side
from mafalda.mediasoup.versions import CannotServe, choose, served, translator_for
from mafalda.mediasoup.versions.choose import OURS, published
from tests.unit.mediasoup.fbs_text import fbs_text


def test_ours_is_that_of_the_driver() -> None:
    assert messages.MEDIASOUP_VERSION == OURS == published()[-1]


@pytest.mark.parametrize("version", published())
def test_every_published_version_is_served_without_a_doubt(version: str) -> None:
    choice = choose(version)
    assert (choice.version, choice.warning, choice.package) == (version, "", None)
    assert choice.schema in (version, OURS)


@pytest.mark.parametrize(("version", "schema"), [("3.19.12", "3.19.11"), ("3.14.13", "3.14.12"), ("3.23.0", "3.22.0")])
def test_a_version_that_was_never_published_is_served_as_the_one_before(version: str, schema: str) -> None:
    assert choose(version).schema == schema


def test_where_its_neighbours_differ_that_is_told() -> None:
    assert choose("3.19.12").warning == ""
    assert choose("3.23.0").warning == "mediasoup 3.23.0 is not known to mafalda-worker 3.27.1 and is served as 3.22.0"


@pytest.mark.parametrize("version", ["3.27.1", "3.27.0", "3.27.1-rc.2", "v3.27.1"])
def test_there_is_nothing_to_translate_for_our_own_schema(version: str) -> None:
    assert translator_for(choose(version)) is None


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("3.12.16", "which speaks flatbuffers as mediasoup does from 3.13.0 on"),
        ("3.28.0", "it is newer than 3.27.1, and its npm package"),
        ("4.0.0", "it is newer than 3.27.1, and its npm package"),
    ],
)
def test_others_are_refused_in_one_sentence_with_both_versions(version: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(CannotServe) as refused:
        choose(version, tmp_path)
    sentence = str(refused.value)
    assert sentence.startswith(f"mediasoup {version} cannot be served by mafalda-worker {OURS}")
    assert why in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("version", ["default", "", "3.27", "3.x.1", "-1.2.3"])
def test_what_is_no_version_is_refused_with_what_to_set(version: str) -> None:
    with pytest.raises(CannotServe, match=r"set MAFALDA_MEDIASOUP_VERSION"):
        choose(version)


# --- newer than any that we know ------------------------------------------------------------------------------


def npm_package(folder: Path, version: str, schema: str) -> Path:
    """An application's folder with the package of a version that does not exist yet."""
    fbs = folder / "node_modules" / "mediasoup" / "worker" / "fbs"
    fbs.mkdir(parents=True)
    (fbs / "message.fbs").write_text(schema)
    (fbs.parents[1] / "package.json").write_text(json.dumps({"name": "mediasoup", "version": version}))
    (folder / "server").mkdir()
    return folder / "server"


def test_a_newer_one_is_served_by_the_schema_in_its_package(tmp_path: Path) -> None:
    schema = fbs_text()
    assert "WORKER_RUNNING = 4" in schema
    schema = schema.replace("WORKER_RUNNING = 4", "WORKER_RUNNING = 200").replace(
        "ROUTER_DUMP = 8", "ROUTER_DUMP = 199"
    )
    choice = choose("3.99.0", npm_package(tmp_path, "3.99.0", schema))
    assert choice.running == 200
    assert choice.warning.startswith("mediasoup 3.99.0 is not known to mafalda-worker 3.27.1")
    between = translator_for(choice)
    assert between is not None
    told = between.to_library(worker_side.encode_notification("WORKER_RUNNING", "4711", None))
    assert told is not None
    assert told != worker_side.encode_notification("WORKER_RUNNING", "4711", None)


def test_a_newer_one_with_what_we_cannot_translate_is_refused(tmp_path: Path) -> None:
    before = "table CloseRouterRequest {"
    schema = fbs_text()
    assert before in schema
    schema = schema.replace(before, f"{before} politely: bool = false;")
    with pytest.raises(CannotServe) as refused:
        choose("3.99.0", npm_package(tmp_path, "3.99.0", schema))
    assert "FBS.Worker.CloseRouterRequest.politely has no counterpart" in str(refused.value)


def test_a_newer_patch_without_its_package_is_served_like_ours(tmp_path: Path) -> None:
    choice = choose("3.27.9", tmp_path)
    assert choice.is_ours
    assert choice.warning == "mediasoup 3.27.9 is not known to mafalda-worker 3.27.1 and is served as 3.27.1"


# --- the table --------------------------------------------------------------------------------------------------


def test_the_command_prints_every_schema() -> None:
    printed = CliRunner().invoke(main, ["dropin", "versions"])
    assert printed.exit_code == 0
    lines = printed.output.splitlines()
    assert lines[1].startswith("3.13.0 to 3.13.1")
    assert any(line.startswith("3.27.0 to 3.27.1") and line.endswith("as it is") for line in lines)
    told = json.loads(CliRunner().invoke(main, ["dropin", "versions", "--json"]).output)
    assert [it["versions"] for it in told["served"]] == [list(it.versions) for it in served()]
