"""``mafalda dropin``: about the drop-in, which itself is ``mafalda-worker``."""

from __future__ import annotations

import click

from mafalda.cli.options import json_option, print_json
from mafalda.mediasoup.versions import OURS, served


@click.group()
def dropin() -> None:
    """The drop-in for applications that use mediasoup (mafalda-worker)."""


@dropin.command()
@json_option
def versions(as_json: bool) -> None:
    """Which versions of mediasoup's library are served, and how much of their channel is translated."""
    found = served()
    if as_json:
        print_json(
            {
                "speaks": OURS,
                "served": [{"versions": list(it.versions), "translated": it.differences} for it in found],
            },
            indent=True,
        )
        return
    width = max(len(_span(it.versions)) for it in found)
    click.echo(f"{'mediasoup library':<{width}}  served")
    for it in found:
        how = f"translated: {it.differences} tables and enums differ" if it.differences else "as it is"
        click.echo(f"{_span(it.versions):<{width}}  {how}")
    click.echo(f"\nOlder than {found[0].versions[0]}: refused. Newer than {OURS}: its patches are served as it is,")
    click.echo("others by the schema in their npm package, where it can be translated.")


def _span(versions: tuple[str, ...]) -> str:
    return versions[0] if len(versions) == 1 else f"{versions[0]} to {versions[-1]}"
