"""Media for demos and tests: a clip whose frames can be counted, its playback, and probes that check it."""

from mafalda.client.media.clip import ClipSpec, make_clip
from mafalda.client.media.playback import Playback, open_playback
from mafalda.client.media.probe import AudioProbe, Probe, ProbeReport, VideoProbe
from mafalda.client.media.tone import find_tone

__all__ = [
    "AudioProbe",
    "ClipSpec",
    "Playback",
    "Probe",
    "ProbeReport",
    "VideoProbe",
    "find_tone",
    "make_clip",
    "open_playback",
]
