"""Compare the state by the log with the objects that the workers really have, and the log with itself."""

from __future__ import annotations

from dataclasses import dataclass

from mafalda.bus.protocol import Bus
from mafalda.monitor.audit.checks import compare_servers
from mafalda.monitor.audit.collect import audit, inventories
from mafalda.monitor.audit.finding import COMPARED, DEADLINE_S, Finding
from mafalda.projection.state import State


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the log equals the fleet.

    Attributes:
        state: By the log.
        differences: Each difference between the log and the workers, in words.
        findings: The other findings of an audit.
    """

    state: State
    differences: list[str]
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Whether there is neither."""
        return not self.differences and not self.findings


async def verify(bus: Bus, *, deadline_s: float = DEADLINE_S) -> Verdict:
    """Compare the log with the workers, and audit it.

    A server that does not answer with an inventory is a difference. Arguments and errors as of ``audit``.
    """
    audited = await audit(bus, deadline_s=deadline_s)
    compared = [finding for finding in audited.findings if finding.code in COMPARED]
    others = [finding for finding in audited.findings if finding.code not in COMPARED]
    return Verdict(audited.state, [finding.what for finding in compared], others)


async def differences(bus: Bus, state: State) -> list[str]:
    """Every difference between the log and the workers at this moment, in words; empty if there is none."""
    return [finding.what for finding in compare_servers(state, await inventories(bus, state))]
