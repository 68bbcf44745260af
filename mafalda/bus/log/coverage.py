"""What a follower has yielded, and what an arrival in the fast lane means for it. Pure: feed it, obey it.

Up to ``verified`` everything is yielded for certain. Above it ``seen`` holds the sequences that were. One connection
to one server delivers all and in order, so an arrival is normally just next; a hole shows when a subject's previous
sequence was never seen, when an arrival is older than the last one, or, for a follower of the whole log, when a
sequence is skipped. What does not belong here: reading the log (``follower``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import Enum

from mafalda.bus.log.patterns import PatternSet, matches
from mafalda.contract.subjects import LOG_SUBJECTS


class Verdict(Enum):
    """What to do with an arrival."""

    YIELD = "yield"
    SKIP = "skip"
    MEND = "mend"  # read the log from ``verified`` first; it holds this one too


class Ledger:
    """One follower's account."""

    def __init__(self, start: int) -> None:
        self.position = start
        self.verified = start
        self._seen: set[int] = set()
        self._bases: dict[str, int] = {}
        self._patterns: PatternSet | None = None
        self._whole = False

    @property
    def patterns(self) -> list[str]:
        """What is followed."""
        return list(self._bases)

    @property
    def unverified(self) -> int:
        """How many entries were yielded on the fast lane's word alone."""
        return len(self._seen)

    def add(self, patterns: Iterable[str], base: int) -> None:
        """Follow more, from just after ``base``; what is followed already keeps its own."""
        for pattern in patterns:
            self._bases.setdefault(pattern, base)
        self._changed()

    def remove(self, patterns: Iterable[str]) -> None:
        """Follow these no more."""
        for pattern in patterns:
            self._bases.pop(pattern, None)
        self._changed()

    def offer(self, seq: int, previous: int, subject: str) -> Verdict:
        """An arrival; if the answer is ``YIELD``, it counts as yielded.

        Args:
            seq: Its sequence.
            previous: The sequence before it on its subject; 0 if it is the first there.
            subject: Its subject.
        """
        if seq <= self.verified or seq in self._seen:
            return Verdict.SKIP
        if self._whole and seq != self.position + 1:
            return Verdict.MEND
        if seq < self.position:
            return Verdict.MEND
        if previous > self.verified and previous not in self._seen and self._is_followed(previous, subject):
            return Verdict.MEND
        self._passed(seq)
        return Verdict.YIELD

    def lacks(self, seq: int, subject: str) -> bool:
        """Whether an entry of the log should have been yielded and was not."""
        return seq > self.verified and seq not in self._seen and self._is_followed(seq, subject)

    def logged(self, seq: int, subject: str) -> bool:
        """An entry read from the log: whether to yield it; if so, it counts as yielded."""
        if not self.lacks(seq, subject):
            return False
        self._passed(seq)
        return True

    def verify(self, seq: int) -> None:
        """The log was read up to here, for all that was followed then."""
        if seq > self.verified:
            self.verified = seq
            self._seen = {other for other in self._seen if other > seq}
        self.position = max(self.position, self.verified)
        self._advance()

    def audited(self, patterns: Collection[str], seq: int) -> None:
        """All entries of these patterns up to ``seq`` were found to be yielded."""
        if all(pattern in patterns or base >= seq for pattern, base in self._bases.items()):
            self.verify(seq)

    def _passed(self, seq: int) -> None:
        self._seen.add(seq)
        self.position = max(self.position, seq)
        self._advance()

    def _advance(self) -> None:
        while self.verified + 1 in self._seen:
            self.verified += 1
            self._seen.remove(self.verified)

    def _is_followed(self, seq: int, subject: str) -> bool:
        if self._patterns is None:
            self._patterns = PatternSet(self._bases)
        return any(self._bases[pattern] < seq for pattern in self._patterns.find(subject))

    def _changed(self) -> None:
        self._patterns = None
        self._whole = all(any(matches(pattern, subject) for pattern in self._bases) for subject in LOG_SUBJECTS)
