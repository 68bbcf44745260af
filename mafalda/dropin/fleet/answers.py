"""Answers to requests, as a library gets them from its worker: a body, or an error class and a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mafalda.contract.messages.results import ChannelAnswer, Result
from mafalda.errors import BadInput, MafaldaError, NotFound, NotJoined, StaleGeneration, WorkerExited
from mafalda.mediasoup.codec.channel_json import from_json
from mafalda.session.requests import Outcome

#: Codes of refusals which say that the place which a request was sent to is gone.
PLACE_GONE = (WorkerExited.code, StaleGeneration.code)


class Refusal(Exception):
    """Why a request is refused.

    Args:
        error: ``TypeError``, ``NotFoundError`` or ``Error``: the class that the library raises.
        reason: For people.
        code: Of the ``MafaldaError`` behind it, if there is one.
    """

    def __init__(self, error: str, reason: str, code: str = "") -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason
        self.code = code


class LibraryAnswer(NamedTuple):
    """The outcome of a request: a body in the codec's shape, or a refusal."""

    body: dict[str, Any]
    refusal: Refusal | None = None


OnAnswer = Callable[[LibraryAnswer], None]


def ignore(_: LibraryAnswer) -> None:
    """An ``OnAnswer`` for a request whose answer nobody needs."""


def not_found(handler: str, method: str) -> Refusal:
    """There is no object with this id; in the worker's words."""
    return Refusal("NotFoundError", f"Channel request handler with ID {handler} not found [method:{method}]")


def wrong(reason: str) -> Refusal:
    """The parameters are bad."""
    return Refusal("TypeError", reason)


def failed(reason: str) -> Refusal:
    """Any other failure."""
    return Refusal("Error", reason)


def refusal_of(error: MafaldaError) -> Refusal:
    """The refusal that stands for an error of the fleet."""
    match error:
        case NotFound() | NotJoined():
            return Refusal("NotFoundError", error.reason, error.code)
        case BadInput():
            return Refusal("TypeError", error.reason, error.code)
    return Refusal("Error", error.reason, error.code)


def answer_of(outcome: Outcome) -> LibraryAnswer:
    """The answer that stands for the outcome of an intent."""
    if isinstance(outcome, MafaldaError):
        return LibraryAnswer({}, refusal_of(outcome))
    try:
        return LibraryAnswer(body_of(outcome) if isinstance(outcome, Result) else {})
    except MafaldaError as error:  # a body that is not JSON of the codec
        return LibraryAnswer({}, refusal_of(error))


def body_of(result: Result) -> dict[str, Any]:
    """The body of the worker's response, as far as a result has it.

    Raises:
        InvalidParameters: The body is not one of the codec's.
    """
    if isinstance(result, ChannelAnswer):
        body: dict[str, Any] = from_json(result.body or {})
        return body
    fields = result.to_json_dict()
    return {key: fields[key] for key in ("type", "paused", "producerPaused", "score") if key in fields}
