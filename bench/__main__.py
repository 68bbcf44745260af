"""``python -m bench``: print the table; with ``--json FILE`` write the figures too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import click
import orjson
import structlog
import uvloop

from bench import (
    decisions,
    dropin,
    fairness,
    first_frame,
    handover,
    intents,
    load_test,
    log_rates,
    media,
    meeting,
    monitor,
    narrow,
    snapshots,
    soak,
)
from bench.figures import Figure, print_table

Suite = Callable[[bool], Coroutine[Any, Any, list[Figure]]]
SUITES: dict[str, Suite] = {
    "intents": intents.measure,
    "dropin": dropin.measure,
    "log": log_rates.measure,
    "decisions": decisions.measure,
    "fairness": fairness.measure,
    "first-frame": first_frame.measure,
    "media": media.measure,
    "narrow": narrow.measure,
    "handover": handover.measure,
    "meeting": meeting.measure,
    "snapshots": snapshots.measure,
    "soak": soak.measure,
    "monitor": monitor.measure,
    "load-test": load_test.measure,
}
_LONG = {"soak"}


@click.command()
@click.argument("suites", nargs=-1, type=click.Choice(sorted(SUITES)))
@click.option("--quick", is_flag=True, help="A tenth of the samples: to see that it runs.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here.")
def main(suites: Iterable[str], quick: bool, json_file: Path | None) -> None:
    """Measure against baselines of the same run. Without SUITES all of them but ``soak``, which takes an hour."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    figures: list[Figure] = []
    for name in suites or [name for name in SUITES if name not in _LONG]:
        click.echo(f"{name} …", err=True)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            figures += runner.run(SUITES[name](quick))
    print_table(figures)
    if json_file:
        json_file.write_bytes(orjson.dumps([figure.to_json_dict() for figure in figures], option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
