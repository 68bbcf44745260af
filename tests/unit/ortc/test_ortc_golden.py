"""Ours answers what mediasoup's own ORTC answered (``golden/``, recorded by ``record_golden.cjs``)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mafalda.errors import InvalidParameters, MafaldaError, UnsupportedError
from mafalda.media.model import Model
from mafalda.media.rtp import RtpCapabilities, RtpParameters
from mafalda.mediasoup import ortc
from mafalda.mediasoup.ortc.scalability import parse_scalability_mode

GOLDEN = Path(__file__).parent / "golden"
ERRORS: dict[str, type[MafaldaError]] = {
    "TypeError": InvalidParameters,
    "UnsupportedError": UnsupportedError,
    "Error": UnsupportedError,  # "cannot allocate more dynamic codec payload types"
}


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def entries(name: str) -> list[Any]:
    return [pytest.param(entry, id=entry["name"]) for entry in golden(name)]


def counting() -> Callable[[], int]:
    """The SSRCs of the recording: they start anew for every call."""
    return itertools.count(500_000_000, 1000).__next__


def answers_as_recorded(recorded: dict[str, Any], call: Callable[[], Model]) -> None:
    if "error" in recorded:
        with pytest.raises(ERRORS[recorded["error"]]) as caught:
            call()
        assert caught.value.reason
    else:
        assert call().to_json_dict() == recorded["result"]


@pytest.mark.parametrize("entry", entries("routers"))
def test_router_capabilities(entry: dict[str, Any]) -> None:
    answers_as_recorded(entry, lambda: ortc.generate_router_rtp_capabilities(entry["input"]))


@pytest.mark.parametrize("entry", entries("parameters"))
def test_rtp_parameters_are_validated_and_normalized(entry: dict[str, Any]) -> None:
    answers_as_recorded(entry, lambda: ortc.validate_rtp_parameters(entry["input"]))


@pytest.mark.parametrize("entry", entries("capabilities"))
def test_rtp_capabilities_are_validated_and_normalized(entry: dict[str, Any]) -> None:
    answers_as_recorded(entry, lambda: ortc.validate_rtp_capabilities(entry["input"]))


@pytest.mark.parametrize("entry", entries("sctp_streams"))
def test_sctp_stream_parameters_are_validated_and_normalized(entry: dict[str, Any]) -> None:
    answers_as_recorded(entry, lambda: ortc.validate_sctp_stream_parameters(entry["input"]))


@pytest.mark.parametrize("entry", golden("scalability_modes"), ids=lambda entry: str(entry["mode"]))
def test_scalability_modes(entry: dict[str, Any]) -> None:
    mode, expected = parse_scalability_mode(entry["mode"]), entry["result"]
    assert (mode.spatial_layers, mode.temporal_layers) == (
        expected["spatialLayers"],
        expected["temporalLayers"],
    )
    assert mode.ksvc is expected["ksvc"]


def producers() -> list[Any]:
    return [
        pytest.param(story, producer, id=f"{path.stem.removeprefix('scenario_')}-{producer['name']}")
        for path in sorted(GOLDEN.glob("scenario_*.json"))
        for story in [json.loads(path.read_text())]
        for producer in story["producers"]
    ]


@pytest.mark.parametrize(("story", "producer"), producers())
def test_producer_and_its_consumers(story: dict[str, Any], producer: dict[str, Any]) -> None:
    caps = RtpCapabilities.model_validate(story["routerRtpCapabilities"])
    if story.get("mediaCodecs"):
        assert ortc.generate_router_rtp_capabilities(story["mediaCodecs"]) == caps
    params = ortc.validate_rtp_parameters(producer["rtpParameters"])

    answers_as_recorded(producer["mapping"], lambda: ortc.get_producer_rtp_parameters_mapping(params, caps, counting()))
    if "error" in producer["mapping"]:
        return
    answered = ortc.answer_producer_rtp_parameters(params, caps)
    assert answered == RtpParameters.model_validate(producer["answered"])
    assert ortc.answer_producer_rtp_parameters(answered, caps) == answered
    mapping = ortc.get_producer_rtp_parameters_mapping(params, caps, counting())
    consumable = ortc.get_consumable_rtp_parameters(producer["kind"], params, caps, mapping)
    assert consumable.to_json_dict() == producer["consumable"]
    assert consumable == ortc.get_consumable_rtp_parameters(producer["kind"], answered, caps, mapping)

    for consumer in producer["consumers"]:
        check_consumer(consumable, story["capabilities"][consumer["capabilities"]], consumer)
    for pipe in producer["pipes"]:
        piped = ortc.get_pipe_consumer_rtp_parameters(consumable, pipe["enableRtx"], counting())
        assert piped.to_json_dict() == pipe["parameters"]["result"]


def check_consumer(consumable: RtpParameters, caps: dict[str, Any], recorded: dict[str, Any]) -> None:
    assert ortc.can_consume(consumable, caps) is recorded["canConsume"]
    assert (ortc.why_cannot_consume(consumable, caps) is None) is recorded["canConsume"]
    answers_as_recorded(
        recorded["parameters"],
        lambda: ortc.get_consumer_rtp_parameters(consumable, caps, recorded["pipe"], recorded["enableRtx"], counting()),
    )
