"""Which differences between two schemas no rule decides: what would be lost or missing without a word.

Used by the tests for every published version, and at start for a version whose schema we were given but do not know.
"""

from __future__ import annotations

from collections.abc import Iterable

from mafalda.mediasoup.codec.schema import Field, Schema, Table, Union
from mafalda.mediasoup.versions.converter import applies, field_named, fields_of
from mafalda.mediasoup.versions.rules import Rule

#: What a library sends; and what it reads.
SAID = (
    "FBS.Request.Request",
    "FBS.Transport.SendRtcpNotification",
    "FBS.Producer.SendNotification",
    "FBS.DataProducer.SendNotification",
)
HEARD = ("FBS.Response.Response", "FBS.Notification.Notification", "FBS.Log.Log")


def undecided(source: Schema, target: Schema, rules: Iterable[Rule], roots: Iterable[str]) -> list[str]:
    """Differences that no rule names, in words.

    Args:
        source: Of the one who writes.
        target: Of the one who reads.
        rules: For this direction.
        roots: The tables that are written whole.
    """
    rules = tuple(rules)
    found: list[str] = []
    others = frozenset({*SAID, *HEARD}.difference(roots := tuple(roots)))
    for table in reachable(source, roots):
        other = target.tables.get(table.name)
        if other is None or table.name in others:
            # A whole body: its request is refused, its notification left out. Or it goes the other way: notifications
            # of both directions are in one union.
            continue
        used = [rule for rule in rules if applies(rule, table, other)]
        taken = {name for rule in used for name in rule.takes}
        given = {name for rule in used for name in rule.gives}
        found += [
            f"{table.name}.{field.name} has no counterpart"
            for field in fields_of(table)
            if field_named(other, field.name) is None and field.name not in taken
        ]
        for field in fields_of(other):
            same = field_named(table, field.name)
            if same is None and field.required and field.name not in given:
                found.append(f"{table.name}.{field.name} is required and not said")
            elif same is not None and not _same_kind(same, field):
                found.append(f"{table.name}.{field.name} is of another kind")
            elif same is not None and field.required and not same.required and field.name not in given:
                found.append(f"{table.name}.{field.name} is required and may be absent")
    return found


def reachable(schema: Schema, roots: Iterable[str]) -> list[Table]:
    """The tables that may be in one of these."""
    found: dict[str, Table] = {}

    def visit(table: Table) -> None:
        if table.name in found:
            return
        found[table.name] = table
        for field in fields_of(table):
            for inner in _targets(field):
                visit(inner)

    for root in roots:
        visit(schema.tables[root])
    return list(found.values())


def _targets(field: Field) -> list[Table]:
    target = field.target
    if isinstance(target, Field):
        return _targets(target)
    if isinstance(target, Union):
        return [table for _, table in target.members.values()]
    return [target] if isinstance(target, Table) else []


def _same_kind(one: Field, other: Field) -> bool:
    if isinstance(one.target, Field) and isinstance(other.target, Field):
        return _same_kind(one.target, other.target)
    return one.kind == other.kind or (one.kind[0] in "ui" and other.kind[0] in "ui" and one.kind[1:].isdigit())
