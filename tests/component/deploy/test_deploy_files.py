"""The files in ``deploy/``, as the programs that are going to read them see them.

``promtool`` comes from Debian's package ``prometheus``, unpacked into a cache if it is not installed.
Grafana has no checker of its own that runs without its server, so a dashboard's queries are checked by promtool and its
layout here.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from mafalda.auth.keys import ISSUER, SYSTEM_USER, TOKENS
from mafalda.bus.config import NKEY_FILE_VARIABLE
from mafalda.mediasoup.install.cache import cache_root

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "mafalda.json"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
TIMEOUT_S = 100
#: Where the units expect the commands.
INSTALLED = "/opt/mafalda/.venv/bin/"


def run(*command: str | Path, cwd: Path = DEPLOY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.fixture(scope="module")
def promtool() -> Path:
    if found := shutil.which("promtool"):
        return Path(found)
    cached = cache_root().parent / "promtool"
    if not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent, prefix="promtool.") as folder:
            fetched = run("sh", "-c", "apt-get download prometheus && dpkg-deb -x prometheus_*.deb .", cwd=Path(folder))
            if fetched.returncode:
                pytest.skip(f"no promtool: Debian's package prometheus cannot be had: {fetched.stderr.strip()[-300:]}")
            (Path(folder) / "usr" / "bin" / "promtool").rename(cached)
    return cached


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


@pytest.mark.parametrize("file", ["prometheus/prometheus.yml", "prometheus/kubernetes.yml", "compose/prometheus.yml"])
def test_prometheus_takes_its_configuration_and_the_alert_rules(promtool: Path, file: str, tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "prometheus" / "alerts.yml", tmp_path)  # in one folder, as a container has them
    configuration = yaml.safe_load((DEPLOY / file).read_text())
    for job in configuration["scrape_configs"]:
        job.pop("kubernetes_sd_configs", None)  # Debian's Prometheus is built without it
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    checked = run(promtool, "check", "config", tmp_path / "prometheus.yml")
    assert checked.returncode == 0, checked.stderr
    assert "rules found" in checked.stdout


def test_prometheus_takes_each_query_of_the_autoscalers(promtool: Path, tmp_path: Path) -> None:
    folder = DEPLOY / "kubernetes" / "autoscaling"
    rules = yaml.safe_load((folder / "prometheus-adapter.yaml").read_text())["rules"]["external"]
    scalers = (folder / "allocators.yaml").read_text() + (folder / "media-nodes.yaml").read_text()
    assert {rule["name"]["as"] for rule in rules} == set(re.findall(r"metric: {name: (\w+)}", scalers))
    records = [{"record": rule["name"]["as"], "expr": rule["metricsQuery"]} for rule in rules]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "autoscaling", "rules": records}]}))
    checked = run(promtool, "check", "rules", tmp_path / "rules.yml")
    assert checked.returncode == 0, checked.stderr


def test_alerts_fire_when_they_should(promtool: Path) -> None:
    tested = run(promtool, "test", "rules", "prometheus/alerts.test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_each_alert_says_what_to_do() -> None:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]


def test_prometheus_takes_each_query_of_the_dashboard(promtool: Path, tmp_path: Path) -> None:
    queries = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    assert len(queries) > 20
    filled = [query.replace("$__rate_interval", "1m").replace("$server", ".*") for query in queries]
    assert not [query for query in filled if "$" in query]
    rules = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(filled)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = run(promtool, "check", "rules", tmp_path / "queries.yml")
    assert checked.returncode == 0, checked.stderr


def test_no_panel_hides_another() -> None:
    places = [panel["gridPos"] for panel in panels()]
    assert len({panel["id"] for panel in panels()}) == len(places)
    for place in places:
        assert place["x"] + place["w"] <= 24
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


def test_each_panel_asks_the_chosen_data_source_and_says_what_it_shows() -> None:
    for panel in panels():
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["description"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_the_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze: this machine has no systemd")
    text = unit.read_text()
    assert INSTALLED in text
    (tmp_path / unit.name).write_text(text.replace(INSTALLED, f"{Path(sys.executable).parent}/"))
    checked = run("systemd-analyze", "verify", tmp_path / unit.name)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_command_of_the_unit_knows_its_options(unit: Path) -> None:
    started = re.search(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    assert started
    words = started[1].removeprefix(INSTALLED).split()
    command = [word for word in words[1:] if not word.startswith("$")]
    if words[-1] == "${CREDENTIALS_DIRECTORY}":
        command.append(str(DEPLOY))
    shown = run(sys.executable, "-m", "mafalda", *command, "--help")
    assert shown.returncode == 0, shown.stderr
    stop = re.search(r"^TimeoutStopSec=(\d+)$", unit.read_text(), re.MULTILINE)
    if "--drain-grace" in command:
        assert stop
        assert int(stop[1]) > float(command[command.index("--drain-grace") + 1])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_unit_gets_the_keys_that_it_reads_and_no_others(unit: Path) -> None:
    """A service with a user of its own cannot read the files of root's in /etc/mafalda."""
    role, text = unit.stem.removeprefix("mafalda-"), unit.read_text()
    given = dict(re.findall(r"^LoadCredential=([^:]+):(.*)$", text, re.MULTILINE))
    assert given == {name: f"/etc/mafalda/{name}" for name in given}
    if role == "auth":
        assert given.keys() == {"auth.nk", SYSTEM_USER, ISSUER, TOKENS}
        assert "--keys ${CREDENTIALS_DIRECTORY}" in text
    else:
        assert given.keys() == {f"{role}.nk"}
        assert f"Environment={NKEY_FILE_VARIABLE}=%d/{role}.nk" in text
