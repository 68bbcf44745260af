"""From a message in one version's schema to the same in another's, as our codec decodes them: dicts, changed in place.

Fields, enum words and union members of the same name mean the same, so most of a message stays as it is. What is walked
to is worked out once from the two schemas and the rules: only tables below which something changes.

What does not belong here: the rules (``rules``), bytes and who sent what (``translator``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mafalda.mediasoup.codec.schema import INTEGERS, Enum, Field, Schema, Table, Union
from mafalda.mediasoup.versions.rules import Rule

Body = dict[str, Any]
_Step = Callable[[Body], None]


class Converter:
    """Converts tables of ``source`` into such of ``target``, in place.

    Args:
        source: The schema in which messages were decoded.
        target: The schema in which they will be encoded.
        rules: What to do where the two differ in more than their layout.
    """

    def __init__(self, source: Schema, target: Schema, rules: Iterable[Rule]) -> None:
        self._source, self._target = source, target
        self._rules = tuple(rules)
        self._steps: dict[str, tuple[_Step, ...]] = {}

    def convert(self, table: str, body: Body) -> None:
        """Convert a decoded table."""
        for step in self._steps_of(self._source.tables[table]):
            step(body)

    def _steps_of(self, table: Table) -> tuple[_Step, ...]:
        """Inner tables first, so that rules see what is in them as it came or as it will be, but never half."""
        found = self._steps.get(table.name)
        if found is None:
            self._steps[table.name] = ()  # no table of the schema contains itself
            other = self._target.tables.get(table.name)
            steps = [rule.apply for rule in self._rules if rule.apply and other and applies(rule, table, other)]
            for field in fields_of(table):
                steps += self._field_steps(field, None if other is None else field_named(other, field.name))
            found = self._steps[table.name] = tuple(steps)
        return found

    def _field_steps(self, field: Field, other: Field | None) -> list[_Step]:
        name, target = field.name, field.target
        if isinstance(target, Table) and field.kind == "table":
            inner = self._steps_of(target)
            return [lambda body: _each(inner, body.get(name))] if inner else []
        if isinstance(target, Union):
            members = {member: self._steps_of(table) for member, (_, table) in target.members.items()}
            return [lambda body: _in_member(members, body.get(name))] if any(members.values()) else []
        if isinstance(target, Field):
            return self._vector_steps(name, target, other.target if other else None)
        if other and field.kind in INTEGERS and other.kind in INTEGERS:
            low, high = INTEGERS[other.kind][2:]
            if low > INTEGERS[field.kind][2] or high < INTEGERS[field.kind][3]:
                return [lambda body: _clamp(body, name, low, high)]
        return []

    def _vector_steps(self, name: str, element: Field, other: object) -> list[_Step]:
        steps: list[_Step] = []
        if isinstance(element.target, Table):
            words = self._lost_words(element.target)
            if words:
                steps.append(lambda body: _without(body, name, words))
            inner = self._steps_of(element.target)
            if inner:
                steps.append(lambda body: _all(inner, body.get(name)))
        elif isinstance(element.target, Enum) and isinstance(other, Field) and isinstance(other.target, Enum):
            known = other.target.number_of
            if not element.target.number_of.keys() <= known.keys():
                steps.append(lambda body: _known(body, name, known))
        return steps

    def _lost_words(self, table: Table) -> dict[str, frozenset[str]]:
        """Enum fields of a vector's elements, with the words that the target lacks: such elements are left out."""
        other = self._target.tables.get(table.name)
        found: dict[str, frozenset[str]] = {}
        for field in fields_of(table):
            same = field_named(other, field.name) if other else None
            if isinstance(field.target, Enum) and same and isinstance(same.target, Enum):
                lost = frozenset(field.target.number_of) - frozenset(same.target.number_of)
                if lost:
                    found[field.name] = lost
        return found


def fields_of(table: Table) -> Iterator[Field]:
    """A table's fields, without the holes of its vtable."""
    return (field for field in table.by_slot if field is not None)


def field_named(table: Table, name: str) -> Field | None:
    """The field of this name, if there is one."""
    return next((field for field in fields_of(table) if field.name == name), None)


def applies(rule: Rule, source: Table, target: Table) -> bool:
    """Whether a rule has something to do between two versions of its table."""
    if rule.table != source.name:
        return False
    before, after = {field.name for field in fields_of(source)}, {field.name for field in fields_of(target)}
    return any(name in before and name not in after for name in rule.takes) or any(
        name in after and name not in before for name in rule.gives
    )


def _each(steps: tuple[_Step, ...], body: Body | None) -> None:
    if body is not None:
        for step in steps:
            step(body)


def _all(steps: tuple[_Step, ...], bodies: list[Body] | None) -> None:
    for body in bodies or ():
        for step in steps:
            step(body)


def _in_member(members: dict[str, tuple[_Step, ...]], pair: tuple[str, Body] | None) -> None:
    if pair is not None:
        _each(members[pair[0]], pair[1])


def _clamp(body: Body, name: str, low: int, high: int) -> None:
    value = body.get(name)
    if value is not None and not low <= value <= high:
        body[name] = min(max(value, low), high)


def _without(body: Body, name: str, words: dict[str, frozenset[str]]) -> None:
    if body.get(name):
        body[name] = [it for it in body[name] if not any(it.get(key) in lost for key, lost in words.items())]


def _known(body: Body, name: str, known: Any) -> None:
    if body.get(name):
        body[name] = [word for word in body[name] if word in known]
