"""All payloads, by their CloudEvents type. A message that is not here does not exist."""

from __future__ import annotations

from mafalda.contract.commands import COMMANDS
from mafalda.contract.events import EVENTS
from mafalda.contract.intents import INTENTS
from mafalda.contract.load import REPORTS
from mafalda.contract.notices import NOTICES
from mafalda.contract.payload import Payload
from mafalda.contract.queries import ANSWERS, QUERIES, REQUESTS
from mafalda.contract.results import RESULTS

#: Type name to class, in the order in which the documents list them.
PAYLOADS: dict[str, type[Payload]] = {
    payload.type_name(): payload
    for payload in (*INTENTS, *RESULTS, *COMMANDS, *EVENTS, *REPORTS, *QUERIES, *REQUESTS, *ANSWERS, *NOTICES)
}
