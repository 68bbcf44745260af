"""Which log entries a follower has yielded, and what a republished entry that it receives means for that. Pure.

Up to ``verified`` every followed entry has been yielded; above it, ``_seen`` holds the sequences that have been. One
connection to one server delivers republished entries complete and in order, so normally the next one arrives. A gap
shows when the previous entry on the same subject was never seen, when an entry is older than the last one, or, for a
follower of the whole log, when a sequence is skipped.

Who may publish under ``live.`` can forge an entry with any sequence. So the log decides: an entry far beyond its known
end is looked up, each sequence is kept with the identity of what was yielded for it, what the log has there under
another identity is yielded too, and a sequence beyond the log's end is not kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from enum import Enum

from mafalda.bus.log.patterns import PatternSet, matches
from mafalda.contract.subjects import LOG_SUBJECTS

#: An entry this far beyond the end that the log had when it was last read is looked up in the log before it is yielded.
MAX_AHEAD = 65_536
#: Entries that are remembered after they were verified: the one in whose place one was forged comes soon after it.
_RECENT = 256


class Verdict(Enum):
    """What to do with a republished entry."""

    YIELD = "yield"
    SKIP = "skip"
    CATCH_UP = "catch-up"  # read the log from ``verified`` first; it holds this entry too


class Coverage:
    """The sequences that one follower has yielded.

    Args:
        start: Entries up to this sequence are not wanted.
    """

    def __init__(self, start: int) -> None:
        self.position = start
        self.verified = start
        self._seen: dict[int, str] = {}  # sequences above ``verified``, and the identity of what was yielded for each
        self._recent: dict[int, str] = {}  # the last ones yielded, verified or not
        self._end = start  # of the log, when it was last read
        self._beyond: frozenset[int] = frozenset()  # those that were beyond the log's end when it was last read
        self._bases: dict[str, int] = {}
        self._patterns = PatternSet()
        self._takers: Counter[str] = Counter()  # how many patterns take all of each of ``LOG_SUBJECTS``

    @property
    def patterns(self) -> list[str]:
        """The patterns that are followed."""
        return list(self._bases)

    @property
    def unverified(self) -> int:
        """How many entries above ``verified`` have been yielded."""
        return len(self._seen)

    def add(self, patterns: Iterable[str], base: int) -> None:
        """Follow more patterns from just after ``base``; one that is followed already keeps its own base."""
        for pattern in patterns:
            if pattern not in self._bases:
                self._bases[pattern] = base
                self._patterns.add(pattern)
                self._takers.update(subject for subject in LOG_SUBJECTS if matches(pattern, subject))

    def remove(self, patterns: Iterable[str]) -> None:
        """Follow these patterns no more."""
        for pattern in patterns:
            if pattern in self._bases:
                del self._bases[pattern]
                self._patterns.discard(pattern)
                self._takers.subtract(subject for subject in LOG_SUBJECTS if matches(pattern, subject))

    def takes(self, subject: str) -> bool:
        """Whether a pattern that is followed takes a subject."""
        return self._patterns.takes(subject)

    def judge(self, seq: int, previous: int, subject: str, message_id: str = "") -> Verdict:
        """Decide about a republished entry; with ``YIELD`` it counts as yielded.

        Args:
            seq: Its sequence.
            previous: The sequence of the entry before it on its subject; 0 if it is the first there.
            subject: Its subject.
            message_id: The id that its headers give it.
        """
        identity = _identity(subject, message_id)
        if seq <= self.verified and self._recent.get(seq, identity) != identity:
            self._unverify(seq)
            return Verdict.CATCH_UP
        if seq <= self.verified or self._seen.get(seq) == identity:
            return Verdict.SKIP
        if seq in self._seen or seq > self._end + MAX_AHEAD:
            return Verdict.CATCH_UP
        if seq != self.position + 1 and self._is_whole():
            return Verdict.CATCH_UP
        if seq < self.position:
            return Verdict.CATCH_UP
        if previous > self.verified and previous not in self._seen and self._is_followed(previous, subject):
            return Verdict.CATCH_UP
        self._passed(seq, identity)
        return Verdict.YIELD

    def lacks(self, seq: int, subject: str, message_id: str = "") -> bool:
        """Whether an entry of the log should have been yielded and was not."""
        return (
            seq > self.verified
            and self._seen.get(seq) != _identity(subject, message_id)
            and self._is_followed(seq, subject)
        )

    def take_from_log(self, seq: int, subject: str, message_id: str = "") -> bool:
        """Whether to yield an entry that was read from the log; if so, it counts as yielded."""
        if not self.lacks(seq, subject, message_id):
            return False
        self._passed(seq, _identity(subject, message_id))
        return True

    def verify(self, seq: int) -> None:
        """Record that the log was read to ``seq`` for all patterns that were followed then."""
        if seq > self.verified:
            self.verified = seq
            self._seen = {other: identity for other, identity in self._seen.items() if other > seq}
        self.position = max(self.position, self.verified)
        self._advance()

    def audited(self, patterns: Collection[str], seq: int) -> None:
        """Record that the log was read to ``seq`` for ``patterns``.

        It counts as verified unless a pattern that was added meanwhile begins before ``seq``.
        """
        self.note_end(seq)
        known = frozenset(patterns)
        if all(pattern in known or base >= seq for pattern, base in self._bases.items()):
            self.verify(seq)
            beyond = frozenset(self._seen)
            for forged in self._beyond & beyond:  # the log has grown or not; it did not come to them in a whole audit
                del self._seen[forged]
            self._beyond = beyond - self._beyond

    def note_end(self, seq: int) -> None:
        """Record a sequence that the log has reached."""
        self._end = max(self._end, seq)

    def caught_up(self, patterns: Collection[str], end: int) -> None:
        """As ``audited``, when everything that was received before has been judged: nothing is beyond ``end``.

        A forged sequence beyond it would otherwise make each entry that follows look like one that comes too late.
        """
        self.audited(patterns, end)
        self.position = max(self.verified, min(self.position, end))

    def _unverify(self, seq: int) -> None:
        """Two different entries claim this sequence: the log is to be read from it on."""
        self._seen |= {other: identity for other, identity in self._recent.items() if other >= seq}
        self.verified = seq - 1

    def _passed(self, seq: int, identity: str) -> None:
        self._seen[seq] = self._recent[seq] = identity
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]
        self.position = max(self.position, seq)
        self._advance()

    def _advance(self) -> None:
        while self.verified + 1 in self._seen:
            self.verified += 1
            del self._seen[self.verified]

    def _is_whole(self) -> bool:
        """Whether the patterns take the whole log."""
        return all(self._takers[subject] > 0 for subject in LOG_SUBJECTS)

    def _is_followed(self, seq: int, subject: str) -> bool:
        return any(self._bases[pattern] < seq for pattern in self._patterns.find(subject))


def _identity(subject: str, message_id: str) -> str:
    return f"{subject} {message_id}"
