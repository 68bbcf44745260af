"""Running meson and ninja over a prepared source, with progress and a log.

What does not belong here: preparing the source (``overlays``) and keeping the result (``cache``).
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from mafalda.mediasoup.install import pin
from mafalda.mediasoup.install.errors import BuildFailed, ToolsMissing
from mafalda.mediasoup.install.overlays import PIP_COMMAND, Flatc
from mafalda.mediasoup.install.progress import Progress, Step

# The worker's libwebrtc part includes headers that flatc generates without saying so to meson; with several jobs
# they may be compiled before they are there. So they are made first. One output stands for all of them.
_GENERATED_HEADER = "fbs/FBS/message.h"
_NINJA_LINE = re.compile(r"^\[(\d+)/(\d+)\] (.*)$")
_TAIL_LINES = 40
# Flags from outside would change the binary without changing its key.
_FLAGS = ("CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS")


def compile_worker(
    worker: Path, build: Path, flatc: Flatc, options: Sequence[str], progress: Progress, log: TextIO
) -> Path:
    """Configure and compile.

    Args:
        worker: The prepared source.
        build: The folder to build in; it must not exist.
        flatc: The flatbuffers compiler to use.
        options: Meson's.
        progress: Gets a step for each line of ninja's.
        log: Gets everything that the tools say.

    Returns:
        The binary, inside ``build``.

    Raises:
        ToolsMissing: meson or ninja is not installed beside us.
        BuildFailed: one of them failed.
    """
    ninja = find_ninja()
    environment = _environment(ninja)
    native = build.with_name("native.ini")
    native.write_text(f"[binaries]\nflatc = '{flatc.binary}'\n", encoding="utf-8")
    progress(Step("configure", "meson setup"))
    setup = [*_meson(), "setup", str(build), str(worker), f"--native-file={native}", *options]
    _run(setup, environment, log, "meson could not configure the worker")
    progress(Step("configure", "flatc: the channel's headers"))
    _run([*_ninja_in(build, ninja), _GENERATED_HEADER], environment, log, "flatc could not generate the headers")
    return recompile(build, progress, log)


def recompile(build: Path, progress: Progress, log: TextIO) -> Path:
    """Compile what changed since the last time. Arguments, result and errors as of ``compile_worker``."""
    ninja = find_ninja()

    def report(line: str) -> None:
        match = _NINJA_LINE.match(line)
        if match:
            progress(Step("compile", _short(match[3]), done=int(match[1]), total=int(match[2])))

    command = [*_ninja_in(build, ninja), pin.BUILD_TARGET]
    _run(command, _environment(ninja), log, "the worker did not compile", report)
    return build / pin.BUILD_TARGET


def _ninja_in(build: Path, ninja: Path) -> list[str]:
    return [str(ninja), "-C", str(build), f"-j{len(os.sched_getaffinity(0))}"]


def find_ninja() -> Path:
    """The ninja of our own environment, else the system's.

    Raises:
        ToolsMissing: there is none.
    """
    found = shutil.which("ninja", path=sysconfig.get_path("scripts")) or shutil.which("ninja")
    if found is None:
        raise ToolsMissing("a Python package is missing", command=PIP_COMMAND, missing=["ninja"])
    return Path(found)


def _meson() -> list[str]:
    if importlib.util.find_spec("mesonbuild") is None:
        raise ToolsMissing("a Python package is missing", command=PIP_COMMAND, missing=["meson"])
    return [sys.executable, "-m", "mesonbuild.mesonmain"]


def _environment(ninja: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _FLAGS}
    return {**kept, "NINJA": str(ninja), "NINJA_STATUS": "[%f/%t] ", "LC_ALL": "C.UTF-8"}


def _run(
    command: list[str],
    environment: dict[str, str],
    log: TextIO,
    failure: str,
    on_line: Callable[[str], None] = lambda _: None,
) -> None:
    log.write(f"$ {' '.join(command)}\n")
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                log.write(line)
                tail.append(line.rstrip("\n"))
                on_line(line.rstrip("\n"))
        except BaseException:
            process.terminate()
            raise
    log.flush()
    if process.returncode != 0:
        raise BuildFailed(f"{failure} (exit code {process.returncode})", log_path=Path(log.name), tail="\n".join(tail))


def _short(description: str) -> str:
    """``Compiling C++ object mediasoup-worker.p/src_Worker.cpp.o`` as ``src_Worker.cpp``."""
    name = description.rsplit("/", 1)[-1]
    return name.removesuffix(".o")
