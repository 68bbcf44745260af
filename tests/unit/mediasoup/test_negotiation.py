"""Negotiation is done once for the same producer and the same capabilities, and each consumer has its own stream."""

from __future__ import annotations

import itertools

import pytest

from mafalda.errors import UnsupportedError
from mafalda.media.rtp import RtpCapabilities
from mafalda.mediasoup import ortc
from mafalda.testing.media import OPUS_PARAMETERS, ROUTER_CAPABILITIES


def test_consumers_share_what_was_negotiated_and_nothing_else() -> None:
    mapping = ortc.get_producer_rtp_parameters_mapping(OPUS_PARAMETERS, ROUTER_CAPABILITIES)
    consumable = ortc.get_consumable_rtp_parameters("audio", OPUS_PARAMETERS, ROUTER_CAPABILITIES, mapping)
    numbers = itertools.count(1)
    first, second, of_json = (
        ortc.get_consumer_rtp_parameters(consumable, caps, new_ssrc=lambda: next(numbers))
        for caps in (ROUTER_CAPABILITIES, ROUTER_CAPABILITIES, ROUTER_CAPABILITIES.to_json_dict())
    )
    assert first.codecs[0] is second.codecs[0]
    assert of_json.codecs == first.codecs
    assert [it.encodings[0].ssrc for it in (first, second, of_json)] == [1, 2, 3]
    changing = ROUTER_CAPABILITIES.to_json_dict()
    ortc.get_consumer_rtp_parameters(consumable, changing)
    changing["codecs"] = []
    with pytest.raises(UnsupportedError):
        ortc.get_consumer_rtp_parameters(consumable, changing)
    for _ in range(2):
        with pytest.raises(UnsupportedError):
            ortc.get_consumer_rtp_parameters(consumable, RtpCapabilities())
