"""The file that is read where a library gives its worker an empty environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from mafalda.dropin.process.config_file import NAME, WrongConfig, config_paths, read_config


def program(folder: Path, text: str | None = None) -> str:
    """As a library calls it, with a file beside it."""
    folder.mkdir(exist_ok=True)
    if text is not None:
        (folder / NAME).write_text(text)
    return str(folder / "mafalda-worker")


def test_it_is_found_beside_the_program(tmp_path: Path) -> None:
    called = program(tmp_path / "bin", "MAFALDA_NATS_URL=nats://nats-1:4222\n")
    assert read_config(called, {"HOME": str(tmp_path)}) == {"MAFALDA_NATS_URL": "nats://nats-1:4222"}


@pytest.mark.parametrize(("variable", "folder"), [("HOME", ".config/mafalda"), ("XDG_CONFIG_HOME", "mafalda")])
def test_else_it_is_found_in_the_user_s_configuration(tmp_path: Path, variable: str, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / NAME).write_text("MAFALDA_MEDIASOUP_VERSION=3.26.0")
    called = program(tmp_path / "bin")
    assert read_config(called, {variable: str(tmp_path)}) == {"MAFALDA_MEDIASOUP_VERSION": "3.26.0"}


def test_an_empty_environment_has_a_home_all_the_same(tmp_path: Path) -> None:
    *_, home = config_paths(program(tmp_path), {})
    assert Path(home).is_absolute()
    assert Path(home).parts[-3:] == (".config", "mafalda", NAME)


def test_the_one_beside_the_program_counts_alone(tmp_path: Path) -> None:
    (tmp_path / ".config/mafalda").mkdir(parents=True)
    (tmp_path / ".config/mafalda" / NAME).write_text("A=home\nB=home")
    assert read_config(program(tmp_path / "bin", "A=beside"), {"HOME": str(tmp_path)}) == {"A": "beside"}


def test_what_the_environment_has_stays(tmp_path: Path) -> None:
    called = program(tmp_path, "MAFALDA_NATS_URL=nats://file:4222\nMAFALDA_NATS_CREDS=/etc/app.creds")
    assert read_config(called, {"MAFALDA_NATS_URL": "nats://here:4222"}) == {"MAFALDA_NATS_CREDS": "/etc/app.creds"}


def test_without_a_file_nothing_is_set(tmp_path: Path) -> None:
    assert read_config(program(tmp_path), {"HOME": str(tmp_path)}) == {}


def test_python_s_own_programs_have_none_beside_them(tmp_path: Path) -> None:
    program(tmp_path, "A=1")
    assert read_config(str(tmp_path / "__main__.py"), {"HOME": str(tmp_path / "nowhere")}) == {}


def test_lines_are_those_of_an_env_file(tmp_path: Path) -> None:
    text = "# where NATS is\n\nexport A=1\n B = two words \nC='quoted # not a comment'\nD=\nE=x=y\n"
    assert read_config(program(tmp_path, text), {}) == {
        "A": "1",
        "B": "two words",
        "C": "quoted # not a comment",
        "D": "",
        "E": "x=y",
    }


@pytest.mark.parametrize("text", ["A=1\nnonsense\n", "A=1\n=2\n", "A=1\nno spaces=2"])
def test_another_line_is_refused_by_its_number(tmp_path: Path, text: str) -> None:
    with pytest.raises(WrongConfig, match=rf"{NAME}, line 2: not NAME=value"):
        read_config(program(tmp_path, text), {})


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    called = program(tmp_path)
    (tmp_path / NAME).mkdir()
    with pytest.raises(WrongConfig, match=r"mafalda-worker\.env: Is a directory"):
        read_config(called, {})
