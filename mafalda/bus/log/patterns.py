"""NATS subject patterns: whether they match a subject, sets of them, and the filters of a JetStream consumer. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

#: nats-server compares a consumer's filters with each other and each with every subject. Beyond this number ``cover``
#: joins them into wider ones.
MAX_FILTERS = 128

_LITERAL = r"[^\s.*>]+"
_PATTERN = re.compile(rf"(?:(?:\*|{_LITERAL})\.)*(?:\*|>|{_LITERAL})")
_END = "\0"  # the key of a pattern that ends at a node; no token can be this


def check_pattern(pattern: str) -> str:
    """Return ``pattern`` if it is a subject or subject pattern that NATS accepts.

    Raises:
        ValueError: An empty token, white space, or a wildcard where none may be.
    """
    if not _PATTERN.fullmatch(pattern) or _END in pattern:
        raise ValueError(f"not a subject pattern: {pattern[:200]!r}")
    return pattern


def matches(pattern: str, subject: str) -> bool:
    """Whether a pattern takes a subject; ``subject`` may be a pattern itself, all of whose subjects are meant then."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or given[index] == ">" or (token != "*" and token != given[index]):
            return False
    return len(wanted) == len(given)


def to_regex(patterns: Iterable[str]) -> re.Pattern[str]:
    """A few fixed patterns as one expression for ``fullmatch``: 1 µs a subject, where ``PatternSet`` takes 8."""
    words = {"*": r"[^.]+", ">": r".+"}
    return re.compile(
        "|".join(r"\.".join(words.get(t, re.escape(t)) for t in p.split(".")) for p in patterns), re.DOTALL
    )


def cover(patterns: Iterable[str], limit: int = MAX_FILTERS) -> list[str]:
    """Filters that take at least all that ``patterns`` take, of which no two take the same subject.

    JetStream refuses a consumer whose filters overlap (10138), so those that do are joined into a wider one. Whoever
    reads with these filters must still compare each subject with ``patterns``. The cost is linear in the number of
    patterns, unless many of them have a wildcard before the tokens in which they differ.

    Args:
        patterns: What must be taken.
        limit: How many filters there may be. More are joined by their number of tokens and their first two tokens.
    """
    chosen = PatternSet()
    for pattern in dict.fromkeys(patterns):
        wide = pattern
        while hit := chosen.find_overlapping(wide):
            chosen.discard(hit)
            wide = _join(hit, wide)
        chosen.add(wide)
    if len(chosen) <= limit:
        return list(chosen)
    shapes: dict[tuple[int, str], str] = {}
    for pattern in chosen:
        tokens = pattern.split(".")
        key = (len(tokens), ".".join(tokens[:2]))
        shapes[key] = _join(shapes[key], pattern) if key in shapes else pattern
    return [">"] if len(shapes) > limit else cover(shapes.values(), limit)


def _join(one: str, other: str) -> str:
    left, right = one.split("."), other.split(".")
    joined: list[str] = []
    for a, b in zip(left, right, strict=False):
        if ">" in (a, b):
            return ".".join([*joined, ">"])
        joined.append(a if a == b else "*")
    return ".".join(joined if len(left) == len(right) else [*joined, ">"])


class PatternSet:
    """A set of patterns as a tree of their tokens, in the order of their addition.

    Adding, discarding and matching cost a walk down the tree, whatever the number of patterns.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._root: dict[str, Any] = {}
        self._patterns: dict[str, None] = {}
        for pattern in patterns:
            self.add(pattern)

    def __len__(self) -> int:
        return len(self._patterns)

    def __iter__(self) -> Iterator[str]:
        return iter(self._patterns)

    def __contains__(self, pattern: str) -> bool:
        return pattern in self._patterns

    def add(self, pattern: str) -> None:
        """Add a pattern; one that is there already stays.

        Raises:
            ValueError: See ``check_pattern``.
        """
        node = self._root
        for token in check_pattern(pattern).split("."):
            node = node.setdefault(token, {})
        node[_END] = pattern
        self._patterns[pattern] = None

    def discard(self, pattern: str) -> None:
        """Remove a pattern, if it is there."""
        if pattern not in self._patterns:
            return
        del self._patterns[pattern]
        tokens = pattern.split(".")
        path = [self._root]
        for token in tokens:
            path.append(path[-1][token])
        del path[-1][_END]
        for parent, token, child in zip(reversed(path[:-1]), reversed(tokens), reversed(path[1:]), strict=True):
            if child:
                break
            del parent[token]

    def find(self, subject: str) -> list[str]:
        """The patterns that take a subject."""
        found: list[str] = []
        _collect(self._root, subject.split("."), 0, found)
        return found

    def takes(self, subject: str) -> bool:
        """Whether any pattern takes a subject."""
        return bool(self.find(subject))

    def find_overlapping(self, pattern: str) -> str | None:
        """A pattern of this set that takes some subject that ``pattern`` takes too; ``None`` if there is none."""
        return _overlapping(self._root, pattern.split("."), 0)


def _collect(node: dict[str, Any], tokens: list[str], depth: int, found: list[str]) -> None:
    if depth == len(tokens):
        if _END in node:
            found.append(node[_END])
        return
    if rest := node.get(">"):
        found.append(rest[_END])
    for token in (tokens[depth], "*"):
        if child := node.get(token):
            _collect(child, tokens, depth + 1, found)


def _overlapping(node: dict[str, Any], tokens: list[str], depth: int) -> str | None:
    if depth == len(tokens):
        ends: str | None = node.get(_END)
        return ends
    if rest := node.get(">"):
        longer: str = rest[_END]
        return longer
    token = tokens[depth]
    if token == ">":
        return next((_first(child) for name, child in node.items() if name != _END), None)
    if token == "*":
        children = [child for name, child in node.items() if name != _END]
    else:
        children = [node[name] for name in (token, "*") if name in node]
    return next((hit for child in children if (hit := _overlapping(child, tokens, depth + 1))), None)


def _first(node: dict[str, Any]) -> str:
    """Some pattern below a node; each node that is not the root leads to one."""
    while _END not in node:
        node = next(iter(node.values()))
    found: str = node[_END]
    return found
