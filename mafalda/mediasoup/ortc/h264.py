"""H264 profiles and levels: whether two sides use the same profile, and the level of the answer.

Rules of RFC 6184, section 8.1, with libwebrtc's defaults, since that is what browsers do. The PyPI package
``h264-profile-level-id`` is not used: 1.0.0 does not know Predictive High 4:4:4, which Chrome offers, and raises
TypeError for a ``profile-level-id`` that is a number, which an SDP parser makes of ``640032``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

_HEX = re.compile(r"[0-9A-Fa-f]{6}")
_CONSTRAINT_SET_3 = 0x10
_LEVEL_1_1 = 11
_LEVEL_1 = 10
_LEVEL_1B_RANK = 10.5
"""Level 1b lies between 1 and 1.1; it has no number of its own on the wire."""
_LEVELS = frozenset({10, 11, 12, 13, 20, 21, 22, 30, 31, 32, 40, 41, 42, 50, 51, 52})


class Profile(Enum):
    """A profile, with the ``profile_idc`` and ``profile-iop`` bytes under which an answer states it."""

    CONSTRAINED_BASELINE = "42e0"
    BASELINE = "4200"
    MAIN = "4d00"
    CONSTRAINED_HIGH = "640c"
    HIGH = "6400"
    PREDICTIVE_HIGH_444 = "f400"


_LEVEL_1B_NAMES = {
    Profile.CONSTRAINED_BASELINE: "42f00b",
    Profile.BASELINE: "42100b",
    Profile.MAIN: "4d100b",
}

_PROFILE_PATTERNS = (
    # profile_idc, bits of profile-iop that count, their values, profile
    (0x42, 0b0100_1111, 0b0100_0000, Profile.CONSTRAINED_BASELINE),
    (0x4D, 0b1000_1111, 0b1000_0000, Profile.CONSTRAINED_BASELINE),
    (0x58, 0b1100_1111, 0b1100_0000, Profile.CONSTRAINED_BASELINE),
    (0x42, 0b0100_1111, 0b0000_0000, Profile.BASELINE),
    (0x58, 0b1100_1111, 0b1000_0000, Profile.BASELINE),
    (0x4D, 0b1010_1111, 0b0000_0000, Profile.MAIN),
    (0x64, 0b1111_1111, 0b0000_0000, Profile.HIGH),
    (0x64, 0b1111_1111, 0b0000_1100, Profile.CONSTRAINED_HIGH),
    (0xF4, 0b1111_1111, 0b0000_0000, Profile.PREDICTIVE_HIGH_444),
)


@dataclass(frozen=True, slots=True)
class ProfileLevel:
    """A parsed ``profile-level-id``; the level is ten times its number, and 10.5 for level 1b."""

    profile: Profile
    level: float

    def __str__(self) -> str:
        if self.level == _LEVEL_1B_RANK:
            return _LEVEL_1B_NAMES[self.profile]
        return f"{self.profile.value}{int(self.level):02x}"


_DEFAULT = ProfileLevel(Profile.CONSTRAINED_BASELINE, 31)
"""libwebrtc's default (crbug.com/webrtc/6337), not the RFC's Baseline at level 1."""


def parse_profile_level_id(text: object) -> ProfileLevel | None:
    """Read three hexadecimal bytes such as ``42e01f``; None if they name no known profile and level."""
    if not isinstance(text, str) or not _HEX.fullmatch(text):
        return None
    profile_idc, profile_iop, level_idc = bytes.fromhex(text)
    if level_idc not in _LEVELS:
        return None
    profile = next(
        (
            profile
            for idc, mask, bits, profile in _PROFILE_PATTERNS
            if idc == profile_idc and profile_iop & mask == bits
        ),
        None,
    )
    if profile is None:
        return None
    is_1b = level_idc == _LEVEL_1_1 and profile_iop & _CONSTRAINT_SET_3
    return ProfileLevel(profile, _LEVEL_1B_RANK if is_1b else level_idc)


def is_same_profile(ours: Mapping[str, object], theirs: Mapping[str, object]) -> bool:
    """Whether two sets of codec parameters name the same, known profile; levels may differ."""
    our_profile, their_profile = _profile_level_of(ours), _profile_level_of(theirs)
    if our_profile is None or their_profile is None:
        return False
    return our_profile.profile is their_profile.profile


def answer_profile_level_id(ours: Mapping[str, object], theirs: Mapping[str, object]) -> str | None:
    """The ``profile-level-id`` of the answer, for two sides of the same profile.

    Our own level if both sides allow asymmetry, else the lower of the two. None if neither side states one.

    Raises:
        ValueError: the profiles are unknown or differ (check ``is_same_profile`` first).
    """
    if not ours.get("profile-level-id") and not theirs.get("profile-level-id"):
        return None
    our_profile, their_profile = _profile_level_of(ours), _profile_level_of(theirs)
    if our_profile is None or their_profile is None or our_profile.profile is not their_profile.profile:
        raise ValueError("H264 profiles are unknown or differ")
    if _allows_asymmetry(ours) and _allows_asymmetry(theirs):
        return str(our_profile)
    return str(ProfileLevel(our_profile.profile, min(our_profile.level, their_profile.level)))


def _profile_level_of(parameters: Mapping[str, object]) -> ProfileLevel | None:
    text = parameters.get("profile-level-id")
    return parse_profile_level_id(text) if text else _DEFAULT


def _allows_asymmetry(parameters: Mapping[str, object]) -> bool:
    return parameters.get("level-asymmetry-allowed") in (1, "1")
