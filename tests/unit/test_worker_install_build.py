"""Running meson and ninja: a project of three lines stands in for the worker's source."""

from __future__ import annotations

from pathlib import Path

import pytest

from mafalda.mediasoup.install import pin
from mafalda.mediasoup.install.build import compile_worker
from mafalda.mediasoup.install.errors import BuildFailed
from mafalda.mediasoup.install.locate import starts
from mafalda.mediasoup.install.overlays import find_flatc
from mafalda.mediasoup.install.progress import Step

# As in the worker's own build, a header is generated and nothing says that main.c needs it.
MESON_BUILD = """
project('mediasoup-worker', 'c')
find_program('flatc')
subdir('fbs/FBS')
executable('mediasoup-worker', 'main.c', 'other.c', include_directories: include_directories('fbs/FBS'))
"""
FBS_MESON_BUILD = """
custom_target('headers', output: ['message.h', 'x.h'], command: [find_program('generate.sh'), '@OUTDIR@'])
"""
# Slow enough for a compiler that does not wait to be there first.
GENERATE = "#!/bin/sh\nsleep 0.5\ntouch $1/x.h\necho '#define NO_VERSION 41' > $1/message.h\n"
MAIN = """
#include <message.h>
#include <stdlib.h>
int other(void);
int main(void) { return getenv("MEDIASOUP_VERSION") ? other() : NO_VERSION; }
"""


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    folder = tmp_path / "worker"
    (folder / "fbs" / "FBS").mkdir(parents=True)
    (folder / "meson.build").write_text(MESON_BUILD)
    (folder / "fbs" / "FBS" / "meson.build").write_text(FBS_MESON_BUILD)
    (folder / "fbs" / "FBS" / "generate.sh").write_text(GENERATE)
    (folder / "fbs" / "FBS" / "generate.sh").chmod(0o755)
    (folder / "main.c").write_text(MAIN)
    (folder / "other.c").write_text("int other(void) { return 0; }\n")
    return folder


def build(worker: Path, steps: list[Step]) -> Path:
    with (worker.parent / "build.log").open("w") as log:
        return compile_worker(worker, worker.parent / "build", find_flatc(), pin.MESON_OPTIONS, steps.append, log)


@pytest.fixture(autouse=True)
def no_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    options = tuple(option for option in pin.MESON_OPTIONS if "force-fallback" not in option)
    monkeypatch.setattr(pin, "MESON_OPTIONS", options)


def test_a_build_gives_a_binary_and_counts_its_steps(worker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NINJA_STATUS", "nothing to count by ")
    monkeypatch.setenv("CFLAGS", "-flags-from-outside-are-not-in-the-key")
    steps: list[Step] = []
    assert starts(build(worker, steps))
    counted = [(step.done, step.total) for step in steps if step.phase == "compile"]
    assert counted == [(1, 3), (2, 3), (3, 3)]
    assert [step.message for step in steps if step.phase == "configure"] == [
        "meson setup",
        "flatc: the channel's headers",
    ]
    log = (worker.parent / "build.log").read_text()
    assert "[3/3]" in log
    assert "meson" in log.splitlines()[0]


def test_headers_are_generated_before_anything_is_compiled(worker: Path) -> None:
    log = build(worker, []).parent.with_name("build.log").read_text()
    assert log.index("message.h") < log.index("main.c.o")


def test_a_compilers_error_comes_with_the_logs_path_and_tail(worker: Path) -> None:
    (worker / "other.c").write_text("this is not C\n")
    with pytest.raises(BuildFailed, match="did not compile") as caught:
        build(worker, [])
    assert caught.value.log_path == worker.parent / "build.log"
    assert "other.c" in caught.value.tail
    assert "other.c" in caught.value.log_path.read_text()
    assert str(caught.value.log_path) in str(caught.value)


def test_a_missing_library_fails_in_configuring(worker: Path) -> None:
    (worker / "meson.build").write_text(MESON_BUILD + "dependency('no-such-library')\n")
    with pytest.raises(BuildFailed, match="could not configure") as caught:
        build(worker, [])
    assert "no-such-library" in caught.value.tail
