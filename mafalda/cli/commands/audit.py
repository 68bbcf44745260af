"""``mafalda audit``: what should be by the log, and is not."""

from __future__ import annotations

import sys
from datetime import datetime

import click
from rich.console import Console
from rich.table import Table

from mafalda.cli.connecting import open_bus
from mafalda.cli.options import deadline_option, json_option, nats_option, print_json
from mafalda.cli.running import run
from mafalda.monitor.audit.collect import audit as audit_fleet
from mafalda.monitor.audit.finding import Finding

#: Width of the output, in columns, when it is not a terminal.
PIPED_WIDTH = 200


@click.command()
@nats_option
@deadline_option
@json_option
def audit(nats_url: str | None, deadline_s: float, as_json: bool) -> None:
    """Compare the log with itself, with the load reports and with what the workers have.

    Prints what is wrong, since when, and what to do; exit code 1 if there is anything. docs/operating.md explains each
    code. Nothing is changed.
    """
    run(_audit(nats_url, deadline_s, as_json))


async def _audit(nats_url: str | None, deadline_s: float, as_json: bool) -> int:
    async with open_bus(nats_url, stored=False) as bus:
        found = await audit_fleet(bus, deadline_s=deadline_s)
    if as_json:
        findings = [finding.to_json_dict() for finding in found.findings]
        print_json({"ok": not findings, "seq": found.state.seq, "findings": findings})
    elif found.findings:
        _print(found.findings)
        click.echo(f"as of {found.state.seq}: {len(found.findings)} findings")
    else:
        click.echo(f"as of {found.state.seq}: nothing found")
    return 1 if found.findings else 0


def _print(findings: list[Finding]) -> None:
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("code", "about", "since", "found"):
        table.add_column(column, no_wrap=column == "code")
    for finding in sorted(findings, key=lambda one: (one.code, str(one.subject))):
        table.add_row(finding.code, str(finding.subject), _time(finding.since), finding.what)
    console.print(table)
    for code, mend in sorted({finding.code: finding.mend for finding in findings}.items()):
        console.print(f"[bold]{code}[/]: {mend}", soft_wrap=True, highlight=False)


def _time(moment: datetime | None) -> str:
    return moment.astimezone().isoformat(" ", "seconds") if moment else "?"
