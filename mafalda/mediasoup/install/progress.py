"""Reports of a running installation. The caller decides how they are shown (``mafalda.cli``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Phase = Literal["find", "wait", "packages", "source", "prepare", "configure", "compile", "self-test", "publish"]


@dataclass(frozen=True, slots=True)
class Step:
    """One line of progress.

    Attributes:
        phase: The part of the installation.
        message: What is being done, for people.
        done: Units done, where the phase counts them (the compiler's steps).
        total: Units in all.
    """

    phase: Phase
    message: str
    done: int | None = None
    total: int | None = None

    def __str__(self) -> str:
        counter = "" if self.total is None else f"[{self.done}/{self.total}] "
        return f"{self.phase}: {counter}{self.message}"


Progress = Callable[[Step], None]


def silent(_: Step) -> None:
    """Show nothing."""
