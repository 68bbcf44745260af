"""Scalability modes (webrtc-svc): how many spatial and temporal layers an encoding has."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MODE = re.compile(r"[LS]([1-9][0-9]?)T([1-9][0-9]?)(_KEY)?")


@dataclass(frozen=True, slots=True)
class ScalabilityMode:
    """Numbers of layers, and whether upper spatial layers depend on lower ones in key frames only (K-SVC)."""

    spatial_layers: int = 1
    temporal_layers: int = 1
    ksvc: bool = False


def parse_scalability_mode(mode: str | None) -> ScalabilityMode:
    """Read a mode such as ``L1T3``, ``S3T3`` or ``L3T3_KEY``.

    Like mediasoup and its worker, it ignores what follows the mode (``L2T2h``), and returns a single layer for None and
    for text that is not a mode.
    """
    match = _MODE.match(mode or "")
    if match is None:
        return ScalabilityMode()
    return ScalabilityMode(spatial_layers=int(match[1]), temporal_layers=int(match[2]), ksvc=match[3] is not None)
