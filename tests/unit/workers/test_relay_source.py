"""The state machine of a relay source, on stories; no event loop."""

from __future__ import annotations

import pytest

from mafalda.errors import NotFound
from mafalda.workers.core.relay_source import Action, RelaySourceState, RequestedState


def flowing() -> RelaySourceState:
    source = RelaySourceState()
    assert source.opened()
    return source


@pytest.mark.parametrize(
    ("wanted", "can_pause", "action"),
    [
        ("paused", True, "pause"),
        ("flowing", True, "resume"),
        ("closed", True, "close"),
        ("paused", False, "none"),  # a direct data producer sends by itself
        ("flowing", False, "none"),
        ("closed", False, "close"),
    ],
)
def test_what_a_request_of_the_target_calls_for(wanted: RequestedState, can_pause: bool, action: Action) -> None:
    assert flowing().request(wanted, "mic", can_pause=can_pause) == action


def test_it_is_paused_and_resumed_when_the_worker_has_done_it() -> None:
    source = flowing()
    seen: list[str] = []
    for happens in (source.paused, source.resumed):
        happens()
        seen.append(source.state)
    assert seen == ["paused", "flowing"]


@pytest.mark.parametrize("wanted", ["paused", "flowing"])
def test_what_is_not_sent_can_neither_be_paused_nor_resumed(wanted: RequestedState) -> None:
    closed = flowing()
    closed.close()
    for source in (RelaySourceState(), closed):
        with pytest.raises(NotFound):
            source.request(wanted, "mic", can_pause=True)


def test_closing_one_that_is_being_opened_closes_it_when_it_is() -> None:
    source = RelaySourceState()
    assert source.request("closed", "mic", can_pause=True) == "close"
    assert source.close()

    assert not source.opened()
    assert source.is_closed


def test_it_ends_once() -> None:
    source = flowing()
    assert source.close()
    assert not source.close()
    assert source.request("closed", "mic", can_pause=True) == "none"
    source.paused()
    source.resumed()
    assert source.is_closed
