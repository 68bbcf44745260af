"""Errors: what was raised on one side is raised on the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.results import Rejected
from mafalda.errors import MafaldaError, NotFound
from mafalda.testing.builders import message


def contract_errors(root: type[MafaldaError] = MafaldaError) -> Iterator[type[MafaldaError]]:
    """Those of the contract; other packages derive their own, which travel as the contract's."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == MafaldaError.__module__:
            yield from contract_errors(child)


@pytest.mark.parametrize("error_type", list(contract_errors()), ids=lambda error_type: error_type.code)
def test_an_error_survives_the_wire(error_type: type[MafaldaError]) -> None:
    raised = error_type("because", room="lobby", limit_bytes=5, ratio=0.5, fatal=False, unit=None)
    rejected = Rejected(intent="join", error=ErrorInfo.of(raised))
    assert message(rejected).data == rejected
    caught = Rejected.model_validate_json(rejected.model_dump_json(by_alias=True)).error.to_error()
    assert type(caught) is error_type
    assert (caught.reason, caught.details, caught.code) == (raised.reason, raised.details, raised.code)
    assert str(caught) == str(raised)


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [error_type.code for error_type in contract_errors()]
    assert len(set(codes)) == len(codes)


def test_an_error_of_another_package_travels_as_the_contract_s() -> None:
    class NoSuchShelf(NotFound):
        pass

    assert type(ErrorInfo.of(NoSuchShelf("gone", shelf=3)).to_error()) is NotFound


def test_details_become_json() -> None:
    info = ErrorInfo.of(MafaldaError("x", names={"b"}, nested=[1], error=ValueError("y")))
    assert info.details == {"names": "{'b'}", "nested": "[1]", "error": "y"}


@pytest.mark.parametrize("name", ["reason", "self", "code", "details", "args", "a b", ""])
def test_details_may_have_any_name(name: str) -> None:
    """They come from the wire; none may clash with a parameter of ours."""
    info = ErrorInfo(code="not-found", message="no", details={name: 1})
    caught = info.to_error()
    assert type(caught) is NotFound
    assert caught.details == {name: 1}
    assert caught.reason == "no"


def test_a_code_of_a_later_version_is_kept() -> None:
    caught = ErrorInfo(code="too-loud", message="quiet please", details={"db": 90}).to_error()
    assert type(caught) is MafaldaError
    assert caught.details == {"db": 90, "code": "too-loud"}


def test_what_an_error_says() -> None:
    assert str(NotFound("no such producer", producer="mic")) == "no such producer (producer='mic')"
    assert str(NotFound("no such producer")) == "no such producer"
