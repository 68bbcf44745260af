"""The Containerfile, the Compose file and the Kustomize set in ``deploy/``, as their ecosystems' own checkers see them.

No test builds the image or starts a container: that needs a registry and a container engine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from compose_spec import PyCompose

from mafalda.auth.keys import create_keys
from mafalda.cli.main import main
from mafalda.mediasoup.install.cache import cache_root

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
COMPOSE = DEPLOY / "compose" / "compose.yaml"
KUBERNETES = DEPLOY / "kubernetes"
PROGRAMS = Path(sys.executable).parent
TIMEOUT_S = 200
#: 110 MB of schemas, so it is not in the development environment: installed once, into the cache.
KUBERNETES_VALIDATE = "kubernetes-validate==1.37.0"
KUBERNETES_VERSION = "1.37"

Objects = list[dict[str, Any]]


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=DEPLOY.parent,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


# --- the Containerfile ----------------------------------------------------------------------------


def test_hadolint_has_nothing_to_say_about_the_containerfile() -> None:
    checked = run(PROGRAMS / "hadolint", DEPLOY / "Containerfile")
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_image_s_user_is_not_root_and_its_version_is_the_project_s() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    last_stage = text[text.rindex("\nFROM ") :]
    assert re.findall(r"^USER (.*)$", last_stage, re.MULTILINE) == ["10001:10001"]
    project = (DEPLOY.parent / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.*)"$', project, re.MULTILINE)
    assert version
    assert f'image.version="{version[1]}"' in text
    assert f"newTag: {version[1]}\n" in (KUBERNETES / "kustomization.yaml").read_text()


# --- Compose --------------------------------------------------------------------------------------


def interpolated(value: Any) -> Any:
    """A parsed Compose file with the defaults of its variables."""
    if isinstance(value, dict):
        return {key: interpolated(item) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item) for item in value]
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) if isinstance(value, str) else value


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    parsed = yaml.safe_load(COMPOSE.read_text())
    found: dict[str, Any] = interpolated({key: value for key, value in parsed.items() if not key.startswith("x-")})
    return found


def check_compose(document: dict[str, Any]) -> None:
    PyCompose.from_json(json.dumps(document)).validate()


def test_the_compose_file_follows_the_specification(compose: dict[str, Any]) -> None:
    check_compose(compose)
    assert len([name for name in compose["services"] if name.startswith(("agent-", "nats-"))]) == 6


@pytest.mark.parametrize(
    "change",
    [{"restrat": "always"}, {"networks": ["nowhere"]}, {"secrets": ["nobody.nk"]}, {"stop_grace_period": "soon"}],
    ids=lambda change: next(iter(change)),
)
def test_the_check_of_the_compose_file_finds_mistakes(compose: dict[str, Any], change: dict[str, Any]) -> None:
    spoiled = {**compose, "services": {**compose["services"], "archive": {**compose["services"]["archive"], **change}}}
    with pytest.raises(ValueError, match=r"."):
        check_compose(spoiled)


def test_what_the_compose_file_mounts_is_there(compose: dict[str, Any], tmp_path: Path) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            assert volume.partition(":")[0] in compose["volumes"], volume
    for entry in compose["configs"].values():
        assert (COMPOSE.parent / entry["file"]).is_file(), entry
    made = create_keys(tmp_path / "keys").folder
    for entry in compose["secrets"].values():
        folder, _, name = entry["file"].partition("/")
        assert folder == "keys"
        assert (made / name).is_file(), entry


def test_every_port_of_the_compose_file_is_on_loopback(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.rsplit(":", 1)[0] for port in ports}) == len(ports)


def test_agents_of_the_compose_file_share_no_port(compose: dict[str, Any]) -> None:
    agents = [service for name, service in compose["services"].items() if name.startswith("agent-")]
    taken: list[int] = []
    for agent in agents:
        options = dict(zip(agent["command"][1::2], agent["command"][2::2], strict=True))
        first = int(options["--webrtc-server-port"])
        taken += range(first, first + 100)
        taken += range(int(options["--rtc-min-port"]), int(options["--rtc-max-port"]) + 1)
        taken.append(int(agent["environment"]["MAFALDA_METRICS"].rsplit(":", 1)[1]))
        assert int(agent["stop_grace_period"].removesuffix("s")) > int(options["--drain-grace"])
    assert len(set(taken)) == len(taken)


# --- Kubernetes -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validate() -> Callable[[Path], subprocess.CompletedProcess[str]]:
    folder = cache_root().parent / KUBERNETES_VALIDATE.replace("==", "-")
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="kubernetes-validate.") as partial:
            target = Path(partial) / "packages"
            pip = (PROGRAMS / "python", "-m", "pip", "install", "--quiet", "--no-compile", "--target", target)
            if (got := run(*pip, KUBERNETES_VALIDATE)).returncode:
                pytest.skip(f"{KUBERNETES_VALIDATE} cannot be had: {got.stderr.strip()[-300:]}")
            if not folder.exists():
                target.rename(folder)

    def check(manifests: Path) -> subprocess.CompletedProcess[str]:
        options = ("--strict", "-k", KUBERNETES_VERSION)
        return run(PROGRAMS / "python", "-m", "kubernetes_validate", *options, manifests, PYTHONPATH=str(folder))

    return check


@pytest.fixture(scope="module", params=["as it is", "with autoscaling"])
def manifests(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``kubectl kustomize`` makes of a copy with keys of its own."""
    folder = tmp_path_factory.mktemp("kubernetes") / "kubernetes"
    shutil.copytree(KUBERNETES, folder, ignore=shutil.ignore_patterns("keys"))
    create_keys(folder / "keys")
    if request.param == "with autoscaling":
        file = folder / "kustomization.yaml"
        text = file.read_text()
        assert "\n# components:\n#   - autoscaling\n" in text
        file.write_text(text.replace("\n# components:\n#   - autoscaling\n", "\ncomponents:\n  - autoscaling\n"))
    built = run(PROGRAMS / "kubectl", "kustomize", folder)
    assert (built.returncode, built.stderr) == (0, "")
    made = folder.parent / "made.yaml"
    made.write_text(built.stdout)
    return made


def objects_of(manifests: Path) -> Objects:
    return list(yaml.safe_load_all(manifests.read_text()))


def pods_of(objects: Objects) -> dict[str, dict[str, Any]]:
    kinds = ("DaemonSet", "Deployment", "StatefulSet")
    return {it["metadata"]["name"]: it["spec"]["template"] for it in objects if it["kind"] in kinds}


def test_kubernetes_takes_every_object(
    manifests: Path, validate: Callable[[Path], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    checked = validate(manifests)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    spoiled = tmp_path / "spoiled.yaml"
    spoiled.write_text(manifests.read_text().replace("terminationGracePeriodSeconds", "terminationGraceSeconds"))
    assert validate(spoiled).returncode != 0


def test_what_the_objects_refer_to_is_there(manifests: Path) -> None:
    objects = objects_of(manifests)
    names = {(it["kind"], it["metadata"]["name"]) for it in objects}
    pods = pods_of(objects)
    for pod in pods.values():
        for volume in pod["spec"].get("volumes", ()):
            sources = volume.get("projected", {}).get("sources", [volume])
            for source in sources:
                if "secret" in source:
                    secret = source["secret"]
                    assert ("Secret", secret.get("secretName") or secret["name"]) in names
                if "configMap" in source:
                    assert ("ConfigMap", source["configMap"]["name"]) in names
        for container in pod["spec"]["containers"]:
            for source in container.get("envFrom", ()):
                assert ("ConfigMap", source["configMapRef"]["name"]) in names
            volumes = {volume["name"] for volume in pod["spec"].get("volumes", ())} | {"data"}
            assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes
    for it in objects:
        if it["kind"] in ("PodDisruptionBudget", "NetworkPolicy", "Service"):
            selector = it["spec"].get("podSelector") or it["spec"]["selector"]
            wanted = selector.get("matchLabels", selector).items()
            assert any(wanted <= pod["metadata"]["labels"].items() for pod in pods.values()), it["metadata"]["name"]
        if it["kind"] == "HorizontalPodAutoscaler":
            target = it["spec"]["scaleTargetRef"]
            assert (target["kind"], target["name"]) in names


def test_no_container_is_root_and_agents_have_time_to_drain(manifests: Path) -> None:
    pods = pods_of(objects_of(manifests))
    for name, pod in pods.items():
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True, name
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
    agent = pods["agent"]["spec"]
    assert agent["hostNetwork"] is True
    grace = re.search(r"--drain-grace (\d+)", agent["containers"][0]["command"][-1])
    assert grace
    assert agent["terminationGracePeriodSeconds"] > int(grace[1])


# --- what they start ------------------------------------------------------------------------------


def commands() -> list[list[str]]:
    """The arguments of ``mafalda`` in all containers."""
    found: list[list[str]] = []
    for service in interpolated(yaml.safe_load(COMPOSE.read_text()))["services"].values():
        if service["image"] == "mafalda" and service["command"]:
            found.append(service["command"])
    for file in sorted(KUBERNETES.glob("*.yaml")):
        for name, pod in pods_of(objects_of(file)).items():
            container = pod["spec"]["containers"][0]
            if name == "agent":
                line = container["command"][-1].partition("exec mafalda ")[2].replace("\\\n", " ")
                found.append(re.sub(r"\$\{announced.*?\}", "", line.replace('"$HOST_IP"', "10.0.0.5")).split())
            elif "args" in container:
                found.append(container["args"])
    return found


@pytest.mark.parametrize("command", commands(), ids=lambda command: "-".join(command[:3]))
def test_mafalda_knows_the_options_of_the_container(command: list[str]) -> None:
    shown = CliRunner().invoke(main, [*command, "--help"])
    assert shown.exit_code == 0, shown.output


def test_nats_server_takes_its_configuration(tmp_path: Path) -> None:
    made = create_keys(tmp_path)
    shutil.copy(KUBERNETES / "nats.conf", tmp_path)
    server = (PROGRAMS / "nats-server", "-t", "-c", tmp_path / "nats.conf")
    checked = run(*server, NATS_NAME="nats-1", NATS_ROUTES="[nats://nats-2:6222, nats://nats-3:6222]")
    assert checked.returncode == 0, checked.stderr
    made.accounts_conf.unlink()
    assert run(*server, NATS_NAME="nats-1", NATS_ROUTES="[]").returncode != 0


def test_limits_of_nats_are_those_of_mafalda_up() -> None:
    def limits(file: Path) -> list[str]:
        return re.findall(r"^\s*((?:max_payload|write_deadline|ping_\w+|sync_interval): .*)$", file.read_text(), re.M)

    assert len(limits(KUBERNETES / "nats.conf")) == 5
    assert limits(KUBERNETES / "nats.conf") == limits(DEPLOY.parent / "nats.conf")
