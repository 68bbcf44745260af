"""All payload classes by their CloudEvents type. A message of another type cannot be decoded."""

from __future__ import annotations

from mafalda.contract.messages.allocator_report import ALLOCATOR_REPORTS
from mafalda.contract.messages.commands import COMMANDS
from mafalda.contract.messages.events import EVENTS
from mafalda.contract.messages.intents import INTENTS
from mafalda.contract.messages.load import REPORTS
from mafalda.contract.messages.notices import NOTICES
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.queries import ANSWERS, QUERIES, REQUESTS
from mafalda.contract.messages.results import RESULTS

#: Type name to class, in the order in which the documents list them.
PAYLOADS: dict[str, type[Payload]] = {
    payload.type_name(): payload
    for payload in (
        *INTENTS,
        *RESULTS,
        *COMMANDS,
        *EVENTS,
        *REPORTS,
        *ALLOCATOR_REPORTS,
        *QUERIES,
        *REQUESTS,
        *ANSWERS,
        *NOTICES,
    )
}
