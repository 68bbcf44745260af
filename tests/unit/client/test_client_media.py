"""The clip's own instruments: a probe that cannot tell wrong from right would prove nothing."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mafalda.client.media import ClipSpec, Probe, ProbeReport, VideoProbe, find_tone, make_clip, open_playback
from mafalda.client.media.counter import MAX_NUMBER, read_number, write_number

SPEC = ClipSpec(frame_rate=20, duration_s=1)


def picture(number: int) -> av.VideoFrame:
    plane = np.full((360, 320), 128, np.uint8)
    write_number(plane[:240], number)
    return av.VideoFrame.from_ndarray(plane, format="yuv420p")


@given(number=st.integers(0, MAX_NUMBER), seed=st.integers(0, 2**16))
def test_number_survives_noise_and_half_the_size(number: int, seed: int) -> None:
    luma = np.full((240, 320), 128, np.uint8)
    write_number(luma, number)
    noise = np.random.default_rng(seed).integers(-60, 60, luma.shape)
    noisy = np.clip(luma + noise, 0, 255).astype(np.uint8)
    assert read_number(noisy) == number
    assert read_number(noisy[::2, ::2]) == number


@pytest.mark.parametrize("shade", [0, 16, 128, 255])
def test_blank_picture_has_no_number(shade: int) -> None:
    assert read_number(np.full((240, 320), shade, np.uint8)) is None


@given(number=st.integers(0, MAX_NUMBER), column=st.integers(0, 7), row=st.integers(0, 2))
def test_one_flipped_block_is_noticed(number: int, column: int, row: int) -> None:
    luma = np.full((240, 320), 128, np.uint8)
    write_number(luma, number)
    block = luma[row * 40 : (row + 1) * 40, column * 40 : (column + 1) * 40]
    block[:] = 251 - block
    assert read_number(luma) is None


def judge(*steps: tuple[int, float]) -> ProbeReport:
    """What the probe says of numbers at times (seconds)."""
    probe = VideoProbe(SPEC, ProbeReport(), start_s=0.0)
    for number, at_s in steps:
        probe.take(picture(number), at_s)
    return probe.report


def test_probe_accepts_order_loop_and_counts_what_was_skipped() -> None:
    report = judge((17, 0.0), (18, 0.05), (19, 0.10), (0, 0.15), (3, 0.30))
    assert (report.frames_decoded, report.frames_wrong, report.frames_skipped) == (5, 0, 2)
    assert report.first_frame_s == 0.0
    assert report.longest_gap_s == pytest.approx(0.15)


def test_probe_refuses_backwards_and_unreadable() -> None:
    assert judge((7, 0.0), (6, 0.05)).frames_wrong == 1
    assert judge((SPEC.frames, 0.0)).frames_wrong == 1
    probe = VideoProbe(SPEC, ProbeReport(), start_s=0.0)
    probe.take(av.VideoFrame.from_ndarray(np.full((360, 320), 128, np.uint8), format="yuv420p"), 0.0)
    assert probe.report.frames_wrong == 1


def test_probe_takes_any_number_after_a_long_gap() -> None:
    assert judge((7, 0.0), (6, 3.0)).frames_wrong == 0


@pytest.mark.parametrize("hz", [220.0, 440.0, 880.5])
def test_tone_is_found_in_noise(hz: float) -> None:
    time_s = np.arange(24_000) / 48_000
    noise = np.random.default_rng(1).normal(0, 0.02, time_s.size)
    found = find_tone((0.3 * np.sin(2 * np.pi * hz * time_s) + noise).astype(np.float32), 48_000)
    assert found == pytest.approx(hz, abs=0.5)


def test_silence_and_noise_are_no_tone() -> None:
    assert find_tone(np.zeros(24_000, np.float32), 48_000) is None
    noise = np.random.default_rng(2).normal(0, 0.2, 24_000).astype(np.float32)
    assert find_tone(noise, 48_000) is None


@pytest.mark.parametrize("suffix", [".webm", ".mp4"])
async def test_looped_playback_has_no_jump(tmp_path: Path, suffix: str) -> None:
    path = make_clip(tmp_path / f"clip{suffix}", SPEC)
    probe = VideoProbe(SPEC, ProbeReport(), start_s=0.0)
    async with open_playback(path, loop=True) as playback:
        assert playback.video is not None
        assert playback.audio is not None
        video_pts, audio_pts = [], []
        for _ in range(SPEC.frames + 5):
            frame = await playback.video.recv()
            assert isinstance(frame, av.VideoFrame)
            video_pts.append(frame.pts or 0)
            probe.take(frame, len(video_pts) / SPEC.frame_rate)
        for _ in range(55):
            audio_pts.append((await playback.audio.recv()).pts or 0)
    assert probe.report.frames_wrong == probe.report.frames_skipped == 0
    assert set(np.diff(audio_pts)) == {960}
    assert max(np.diff(video_pts)) < 1.3 * 90_000 / SPEC.frame_rate
    assert min(np.diff(video_pts)) > 0.7 * 90_000 / SPEC.frame_rate


async def test_playback_without_loop_ends(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", SPEC)
    probe = Probe(SPEC)
    async with open_playback(path) as playback:
        assert playback.video is not None
        await probe.run(playback.video)
        await playback.video.finished.wait()
    assert probe.report.frames_decoded == SPEC.frames
    assert probe.report.frames_wrong == 0
