"""Media for demos and tests: a clip whose frames can be counted, its playback, probes that check it, and recording."""

from mafalda.client.media.clip import ClipSpec, make_clip
from mafalda.client.media.playback import Playback, open_playback
from mafalda.client.media.probe import AudioProbe, Probe, ProbeReport, VideoProbe
from mafalda.client.media.recorder import record_track
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
    "record_track",
]
