"""What a measurement gives, and how it is printed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. ``baseline`` is the same work done without Mafalda, in the same run."""

    suite: str
    what: str
    value: float
    unit: str
    baseline: float | None = None
    baseline_what: str = ""
    p99: float | None = None
    baseline_p99: float | None = None

    @property
    def ratio(self) -> float | None:
        """Value over baseline."""
        return self.value / self.baseline if self.baseline else None

    def to_json_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio}


def p50(samples: Sequence[float]) -> float:
    """The median."""
    return statistics.median(samples)


def p99(samples: Sequence[float]) -> float:
    """The 99th percentile, by rank."""
    ranked = sorted(samples)
    return ranked[min(len(ranked) - 1, int(len(ranked) * 0.99))]


def latency(suite: str, what: str, samples_s: Sequence[float], baseline_s: Sequence[float], of: str) -> Figure:
    """Milliseconds: the median and the 99th percentile, next to the baseline's."""
    ours, theirs = ((p50(samples) * 1e3, p99(samples) * 1e3) for samples in (samples_s, baseline_s))
    return Figure(suite, what, ours[0], "ms p50", theirs[0], of, ours[1], theirs[1])


def print_table(figures: Sequence[Figure]) -> None:
    """For people."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("suite", "what", "value", "", "p99", "baseline", "p99", "", "ratio"):
        table.add_column(column, justify="right" if column in ("value", "p99", "baseline", "ratio") else "left")
    for figure in figures:
        table.add_row(
            figure.suite,
            figure.what,
            _number(figure.value),
            figure.unit,
            _number(figure.p99),
            _number(figure.baseline),
            _number(figure.baseline_p99),
            figure.baseline_what,
            f"{figure.ratio:.2f}" if figure.ratio is not None else "",
        )
    Console(width=140).print(table)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
