"""Listen infos of transports and WebRTC servers, as parts of the worker's requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mafalda.media.rtp import ListenInfo
from mafalda.mediasoup.errors import InvalidParameters
from mafalda.mediasoup.ortc import parse

AnyListenInfo = ListenInfo | Mapping[str, Any]


def listen_info_body(info: AnyListenInfo) -> dict[str, Any]:
    """One listen info, as part of a request.

    Raises:
        InvalidParameters: It is malformed.
    """
    if isinstance(info, Mapping) and "announcedIp" in info and "announcedAddress" not in info:
        info = {**info, "announcedAddress": info["announcedIp"]}  # mediasoup's older name
    body = parse(ListenInfo, info).model_dump(by_alias=True, exclude_none=True)
    # The worker crashes without these two.
    body.setdefault("portRange", {})
    body.setdefault("flags", {})
    return body


def listen_info_bodies(infos: Sequence[AnyListenInfo]) -> list[dict[str, Any]]:
    """Several listen infos, at least one.

    Raises:
        InvalidParameters: There is none, or one is malformed.
    """
    if not isinstance(infos, list | tuple) or not infos:
        raise InvalidParameters("listen_infos must be a list of at least one")
    return [listen_info_body(info) for info in infos]
