"""Read the intents and results of a batch, each for itself (docs/decisions/0017-batches.md). Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mafalda.contract.channels import fits
from mafalda.contract.messages import intents
from mafalda.contract.messages.batches import BatchedIntent, BatchedResult
from mafalda.contract.messages.envelope import Message, read_payload
from mafalda.contract.messages.intents import Intent, IntentBatch
from mafalda.contract.messages.results import Result, ResultBatch
from mafalda.contract.subjects import Address
from mafalda.errors import BadInput, MalformedMessage

#: Intents that allocators do or answer, or that end what would be in the same batch.
NEVER_BATCHED = (intents.Join, intents.Leave, intents.EndRoom, intents.ApplyGrants, IntentBatch)


def batched_intent(message: Message) -> BatchedIntent:
    """An intent as it is in a batch."""
    return BatchedIntent.model_construct(id=message.id, type=message.type, data=message.data)


def batched_result(cause: Message, result: Result) -> BatchedResult:
    """A result as it is in a batch.

    Args:
        cause: The intent that it answers.
        result: The result.
    """
    return BatchedResult.model_construct(
        intent=cause.data.action, causationid=cause.id, type=result.type_name(), data=result
    )


def read_intents(message: Message) -> Iterator[tuple[Message, BadInput | None]]:
    """The intents of a batch as messages of their own, in order.

    One that cannot be read comes with the reason; its message has the batch's data.

    Args:
        message: Of an ``IntentBatch``.
    """
    for item in message.data.items if isinstance(message.data, IntentBatch) else ():
        own = {"id": item.id, "correlationid": item.id}
        try:
            data = item.data if isinstance(item.data, Intent) else read_payload(item.type, item.data)
            if not isinstance(data, Intent) or isinstance(data, NEVER_BATCHED):
                raise MalformedMessage("this may not be in a batch", type=item.type)
        except BadInput as error:
            yield message.model_copy(update=own), error
        else:
            yield message.model_copy(update={**own, "type": item.type, "data": data}), None


def read_results(address: Address, message: Message, *causes: str) -> Iterator[tuple[Address, Message]]:
    """The results of a message as messages of their own, with the addresses that they would have; itself, if it is one.

    Results that cannot be read are left out.

    Args:
        address: Of the message.
        message: Of a ``ResultBatch``, or of any other message.
        causes: Only the results of the intents with these ids; none: all.
    """
    if not isinstance(message.data, ResultBatch):
        yield address, message
        return
    for item in message.data.items:
        if causes and item.causationid not in causes:
            continue
        own = address._replace(action=item.intent)
        try:
            data = read_result(item)
        except BadInput:
            continue
        if fits(own, data):
            yield own, message.model_copy(update={"causationid": item.causationid, "type": item.type, "data": data})


def read_result(item: BatchedResult) -> Result:
    """The data of one result of a batch.

    Raises:
        BadInput: It is no result.
    """
    data = item.data if isinstance(item.data, Result) else read_payload(item.type, item.data)
    if not isinstance(data, Result) or isinstance(data, ResultBatch):
        raise MalformedMessage("not a result", type=item.type)
    return data
