"""What clients can receive, each different set of RTP capabilities once."""

from __future__ import annotations

from mafalda.media.rtp import RtpCapabilities

#: Different clients' capabilities that are remembered: there is one for each kind and version of a browser.
MAX_KNOWN_CAPABILITIES = 256


class KnownCapabilities:
    """RTP capabilities of clients; equal ones are one object, so that the driver negotiates with them once."""

    def __init__(self) -> None:
        self._by_json: dict[str, RtpCapabilities] = {}

    def the_same(self, capabilities: RtpCapabilities) -> RtpCapabilities:
        """The first object that is equal to these."""
        if len(self._by_json) >= MAX_KNOWN_CAPABILITIES:
            self._by_json.clear()
        return self._by_json.setdefault(capabilities.model_dump_json(), capabilities)
