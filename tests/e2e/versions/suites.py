"""mediasoup's own Node tests, of each version that its npm package carries, run against any worker binary.

What does not belong here: which worker, and what is expected of it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mafalda.mediasoup.install.cache import cache_root
from tests.e2e.node.conftest import NODE_HOME, install, node_environment

HERE = Path(__file__).parent
ALIAS = "mediasoup-"
#: For one version's tests, in seconds; they need 20 to 60.
TIMEOUT_S = 900
VERSIONS = tuple(
    name.removeprefix(ALIAS)
    for name in json.loads((HERE / "package.json").read_text())["dependencies"]
    if name.startswith(ALIAS)
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one version's tests: each by its file and name."""

    passed: frozenset[str]
    failed: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"{len(self.passed)} of {len(self.passed) + len(self.failed)} pass"]
        return "\n".join([*lines, *(f"{name}: {message}" for name, message in sorted(self.failed.items()))])


def modules() -> Path:
    """All the versions' packages, installed once."""
    return install(HERE / "package-lock.json", cache_root().parent / "node")


def package(modules: Path, version: str) -> Path:
    """One version's package."""
    return modules / f"{ALIAS}{version}"


def run_suite(modules: Path, version: str, folder: Path, environment: Mapping[str, str]) -> Outcome:
    """Run a version's tests.

    Args:
        modules: Where its package is.
        version: Which.
        folder: For what is written meanwhile.
        environment: What names the worker.
    """
    library = package(modules, version) / "node" / "lib"
    tests = next(path for path in (library / "test", library / "tests") if path.is_dir())
    _certificate(tests / "data")
    for file in tests.glob("test-*.js"):
        (folder / f"{file.stem.removeprefix('test-')}.test.js").write_text(f"require({json.dumps(str(file))});\n")
    config = {
        "rootDir": str(folder),
        "testEnvironment": "node",
        "transform": {},
        "maxWorkers": 1,  # they pick free ports
        "globals": {"MEDIASOUP_LIBRARY": str(library / "index.js")},
        "setupFilesAfterEnv": [str(HERE / "setup.js")],
        "moduleNameMapper": {"^pick-port$": str(modules / "pick-port-1")} if _wants_old_pick_port(library) else {},
    }
    (folder / "jest.config.json").write_text(json.dumps(config))
    out = folder / "out.json"
    command = [str(NODE_HOME / "bin" / "node"), str(modules / "jest" / "bin" / "jest.js")]
    command += ["--config", str(folder / "jest.config.json"), "--forceExit", "--json", f"--outputFile={out}"]
    ran = subprocess.run(
        command,
        cwd=folder,
        env={**node_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert out.exists(), ran.stderr[-5000:]
    return _outcome(json.loads(out.read_text()))


def _wants_old_pick_port(library: Path) -> bool:
    wanted = json.loads((library.parents[1] / "package.json").read_text())["devDependencies"]["pick-port"]
    return bool(wanted.lstrip("^~").startswith("1."))


def _outcome(printed: Mapping[str, Any]) -> Outcome:
    passed: list[str] = []
    failed: dict[str, str] = {}
    for file in printed["testResults"]:
        unit = Path(file["name"]).name.removesuffix(".test.js")
        if not file["assertionResults"]:
            failed[f"{unit} > (did not load)"] = file["message"][:2000]
        for test in file["assertionResults"]:
            name = f"{unit} > {test['fullName']}"
            if test["status"] == "passed":
                passed.append(name)
            elif test["status"] == "failed":
                failed[name] = "\n".join(test["failureMessages"])[:2000]
    return Outcome(frozenset(passed) - failed.keys(), failed)


def _certificate(folder: Path) -> None:
    """The two files that the packages leave out."""
    if (folder / "dtls-key.pem").exists():
        return
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mediasoup")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    (folder / "dtls-cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "dtls-key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
