"""The truth of a simulated recording against the frames themselves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tisr_scope.errors import DataError, MicroscopeError, RecordingError
from tisr_scope.profiles.library import config_path, load_profile
from tisr_scope.profiles.schema import DeviceSetting
from tisr_scope.running_order.patterns import even_slm_image
from tisr_scope.simulated_microscope.detection import CosineApodisation, IncoherentOtf, cutoff
from tisr_scope.simulated_microscope.truth import is_simulated, truth_stack
from tisr_scope.simulated_microscope.world import PatternKey
from tisr_scope.simulated_microscope.world_config import is_simulation, load_world

PROFILE = load_profile("simulated_microtubules")
TEXT = Path(config_path(PROFILE)).read_text()
SEED = DeviceSetting(device="World", property="Seed", value=21)
BRIGHT = DeviceSetting(device="World", property="PeakPhotons", value=400)
EDGE = cutoff(1.49, 525.0) + 1 / 0.1807


@dataclass
class Entry:
    t: int
    channel: int
    position: int
    camera: dict[str, Any]


def record(
    folder: Path, times_s: list[float], settings: tuple[DeviceSetting, ...], repeats: int = 1
) -> tuple[Any, np.ndarray]:
    """A recording (as far as the truth needs one) and its mean frames in photons."""
    world, _ = load_world(TEXT, (*PROFILE.microscope.settings, *settings))
    world.lines["488"].power_mw = PROFILE.channels[0].levels_mw[-1]
    world.shutter_open = True
    world.show(PatternKey(b"even", even_slm_image(world.slm_shape)))
    journal, frames = [], []
    for t, time_s in enumerate(times_s):
        total = np.zeros(world.frame_shape)
        for _ in range(repeats):
            world.set_time(time_s)
            exposure = world.expose()
            total += (exposure.image.astype(float) - 100) * 0.46 / 0.82
            journal.append(Entry(t, 0, 0, {k: str(v) for k, v in exposure.metadata.items()}))
        frames.append(total / repeats)
    recording = SimpleNamespace(
        path=folder,
        profile=PROFILE,
        mode="paired",
        time_points=len(times_s),
        settings=settings,
        journal=journal,
    )
    return recording, np.array(frames) / (256 / 255)


def filtered(image: np.ndarray, pixel_um: float, ratio: Any) -> np.ndarray:
    ky, kx = np.fft.fftfreq(image.shape[0], pixel_um), np.fft.fftfreq(image.shape[1], pixel_um)
    k = np.hypot(ky[:, None], kx[None, :])
    return np.fft.ifft2(np.fft.fft2(image) * ratio(k)).real


def test_truth_seen_through_the_microscope_is_the_frame(tmp_path: Path) -> None:
    """Replacing the truth's transfer function by the OTF and binning gives the noiseless frames."""
    recording, frames = record(tmp_path, [3.0, 40.0], (SEED, BRIGHT), repeats=12)
    truth = truth_stack(recording)
    assert truth.shape == (2, 256, 256)
    assert truth.dtype == np.float32
    apodisation = CosineApodisation(EDGE)

    def to_otf(k: np.ndarray) -> np.ndarray:
        otf = IncoherentOtf(cutoff(1.49, 525.0))(k)
        return np.where(otf > 0, otf / np.maximum(apodisation(k), 1e-3), 0)

    for frame, image in zip(frames, truth, strict=True):
        fine = filtered(image.astype(float), 0.0313, to_otf)
        # centre-aligned: a camera pixel's centre is where its 2 x 2 parts meet
        y = np.fft.fftfreq(256, 0.0313)
        shift = np.exp(2j * np.pi * 0.01565 * (y[:, None] + y[None, :]))
        seen = np.fft.ifft2(np.fft.fft2(fine) * shift).real[::2, ::2]
        inner = (slice(8, -8), slice(8, -8))  # the Fourier filter wraps around at the rim
        difference = (seen - frame)[inner]
        noise = np.sqrt(frame[inner].clip(1) / 0.82 / 12 + 1.6**2 / 0.82**2 / 12)
        assert np.abs(difference.mean()) < 0.01 * frame.mean()
        assert difference.std() < 1.15 * np.sqrt((noise**2).mean())
        worse = np.abs(np.roll(seen, 1, axis=0) - frame)[inner].std()
        assert worse > 3 * difference.std()  # a pixel off would be seen


def test_truth_is_band_limited_to_the_sim_cutoff(tmp_path: Path) -> None:
    recording, _ = record(tmp_path, [0.0], (SEED,))
    truth = truth_stack(recording)[0]
    window = np.hanning(256)[:, None] * np.hanning(256)[None, :]
    power = np.abs(np.fft.fft2(truth * window)) ** 2
    k = np.fft.fftfreq(256, 0.0313)
    radius = np.hypot(k[:, None], k[None, :])
    assert power[radius > EDGE + 0.4].mean() < 1e-4 * power[(radius > 6) & (radius < 9)].mean()
    assert power[(radius > 6) & (radius < 9)].sum() > 0


def test_truth_follows_time_bleaching_stage_and_settings(tmp_path: Path) -> None:
    recording, _ = record(tmp_path, [0.0, 3.0], (SEED,))
    truth = truth_stack(recording)
    assert 0.2 < np.corrcoef(truth[0].ravel(), truth[1].ravel())[0, 1] < 0.99
    moved, _ = record(tmp_path, [0.0], (DeviceSetting(device="World", property="Seed", value=22),))
    assert abs(np.corrcoef(truth[0].ravel(), truth_stack(moved).ravel())[0, 1]) < 0.4
    for entry in recording.journal:
        entry.camera["bleached_fraction_488"] = "0.5"
    np.testing.assert_allclose(truth_stack(recording)[0], truth[0] * 0.5, rtol=1e-4)
    for entry in recording.journal:
        entry.camera |= {"bleached_fraction_488": "0.0", "stage_x_um": str(8 * 0.0626)}
    shifted = truth_stack(recording)[0]
    inner = (slice(20, -20), slice(20, -36))
    difference = np.abs(shifted[inner] - truth[0][20:-20, 36:-20])
    assert difference.max() < 0.02 * truth.max()


def test_truth_at_other_enlargements(tmp_path: Path) -> None:
    recording, _ = record(tmp_path, [0.0], (SEED,))
    two, three = truth_stack(recording)[0], truth_stack(recording, upscale=3)[0]
    assert three.shape == (384, 384)
    assert three.mean() == pytest.approx(two.mean(), rel=2e-3)
    with pytest.raises(DataError, match="higher upscale"):
        truth_stack(recording, upscale=1)


def test_the_configuration_of_the_recording_counts(tmp_path: Path) -> None:
    recording, _ = record(tmp_path, [0.0], (SEED,))
    plain = truth_stack(recording)
    other = TEXT.replace("PeakPhotons,20", "PeakPhotons,40")
    (tmp_path / "provenance.json").write_text(json.dumps({"config_text": other}))
    np.testing.assert_allclose(truth_stack(recording), 2 * plain, rtol=1e-4, atol=1e-3)


def test_what_is_simulated_and_what_is_not(tmp_path: Path) -> None:
    recording, _ = record(tmp_path, [0.0], (SEED,))
    assert is_simulated(recording)
    assert is_simulation(TEXT)
    real = "Device,Camera,DemoCamera,DCam\nProperty,Core,Initialize,1\n"
    assert not is_simulation(real)
    (tmp_path / "provenance.json").write_text(json.dumps({"config_text": real}))
    assert not is_simulated(recording)
    with pytest.raises(MicroscopeError, match="no simulated World"):
        truth_stack(recording)


def test_missing_frames_are_named(tmp_path: Path) -> None:
    recording, _ = record(tmp_path, [0.0], (SEED,))
    with pytest.raises(RecordingError, match="position 3"):
        truth_stack(recording, position=3)


def test_refused_settings_are_named() -> None:
    wrong = DeviceSetting(device="World", property="Modulation", value=3)
    with pytest.raises(MicroscopeError, match=r"World\.Modulation"):
        load_world(TEXT, [wrong])
    unknown = DeviceSetting(device="World", property="Nonsense", value=3)
    with pytest.raises(MicroscopeError, match="Nonsense"):
        load_world(TEXT, [unknown])
    elsewhere = DeviceSetting(device="FilterWheel", property="State", value=3)
    load_world(TEXT, [elsewhere])


def test_recordings_name_the_devices_as_they_were_when_made() -> None:
    config = Path(config_path(load_profile("simulated_microtubules"))).read_text(encoding="utf-8")
    former = config.replace("tisr_scope.simulated_microscope.", "tisr_scope.simulation.")
    assert former != config
    assert repr(load_world(former)) == repr(load_world(config))
