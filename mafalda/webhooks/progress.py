"""Up to where everything is finished, when events finish in another order than they began. Pure."""

from __future__ import annotations


class Progress:
    """Log sequences that are being handled.

    Args:
        seq: Everything up to it is finished.
    """

    def __init__(self, seq: int) -> None:
        self._unfinished: dict[int, None] = {}  # ascending
        self._begun = seq

    def begin(self, seq: int) -> None:
        """The next one, later than all before."""
        self._unfinished[seq] = None
        self._begun = seq

    def finish(self, seq: int) -> None:
        """It is done."""
        del self._unfinished[seq]

    def passed(self, seq: int) -> None:
        """The log has nothing to handle up to ``seq`` besides what has begun."""
        self._begun = max(self._begun, seq)

    @property
    def seq(self) -> int:
        """Everything up to it is finished."""
        return next(iter(self._unfinished), self._begun + 1) - 1
