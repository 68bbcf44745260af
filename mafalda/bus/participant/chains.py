"""Which log entries a participant's follower has yielded, and what a republished one tells of missing ones. Pure.

Each republished entry names the entry before it on its subject. So all entries of a subject are a chain, and a link
that was never yielded is missing. What is missing at the end of a chain shows when the client asks: after an
interruption, and when a repeated intent turns out to have been stored before.
"""

from __future__ import annotations

from enum import Enum

#: Log entries before the last one yielded that are asked for again: NATS keeps the order on one connection only.
_OVERLAP = 1000


class Verdict(Enum):
    """What to do with a republished entry."""

    YIELD = "yield"
    SKIP = "skip"  # it was yielded before
    MISSING = "missing"  # an entry before it, on its subject, was not yielded


class Chains:
    """The entries that one follower has yielded: all up to ``floor``, and all of each subject up to its last one.

    ``floor`` is unknown (``None``) until the first entry is received, or the client's first message is stored. Taken
    from an entry it is a guess: that message may have been stored before, and its acknowledgement lost.
    """

    def __init__(self) -> None:
        self.floor: int | None = None
        self.position = 0
        self._is_guess = True
        self._last: dict[str, int] = {}

    def begin(self, seq: int) -> bool:
        """The client's own message is stored: nothing up to the first one is wanted.

        Args:
            seq: Its sequence.

        Returns:
            Whether entries after it may have been skipped, because the first entry received came after it.
        """
        if not self._is_guess:
            return False
        self._is_guess = False
        if self.floor is None:
            self.floor = self.position = seq
        is_lower = seq < self.floor
        self.floor = min(seq, self.floor)
        return is_lower

    def judge(self, subject: str, seq: int, previous: int) -> Verdict:
        """Decide about a republished entry; with ``YIELD`` it counts as yielded.

        Args:
            subject: Its subject.
            seq: Its sequence.
            previous: The sequence of the entry before it on its subject; 0 if it is the first there.
        """
        if self.floor is None:
            self.floor = self.position = seq - 1
        known = self._known(subject)
        if seq <= known:
            return Verdict.SKIP
        if previous > known:
            return Verdict.MISSING
        self._passed(subject, seq)
        return Verdict.YIELD

    def take(self, subject: str, seq: int) -> bool:
        """Whether to yield an entry that an agent sent; if so, it counts as yielded."""
        if seq <= self._known(subject):
            return False
        self._passed(subject, seq)
        return True

    def ask_after(self, *, subject: str | None = None, seq: int | None = None) -> int:
        """The sequence after which entries may be missing.

        Args:
            subject: On this subject some are.
            seq: After this sequence some are.
        """
        after = self.position - _OVERLAP
        if subject is not None:
            after = min(after, self._known(subject))
        if seq is not None:
            after = min(after, seq)
        return max(after, self.floor or 0)

    def caught_up(self, seq: int) -> None:
        """Every entry up to this sequence has been yielded."""
        self.floor = max(self.floor or 0, seq)
        self.position = max(self.position, seq)

    def _known(self, subject: str) -> int:
        return max(self.floor or 0, self._last.get(subject, 0))

    def _passed(self, subject: str, seq: int) -> None:
        self._last[subject] = seq
        self.position = max(self.position, seq)
