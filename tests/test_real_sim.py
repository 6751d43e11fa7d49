"""A real low-light GI-SIM stack against the settings of its instrument."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tisr_scope.formats.raw_stack import read_raw_stack
from tisr_scope.sim.reconstruction.reconstruct_files import Making, reconstruct_raw_file

STACK, OTF = "gi_sim_microtubules_raw.mrc", "otf_2d_488.mrc"
FREQUENCY = 5.53
ANGLES = np.array([1.480, 2.5272, 3.5744])


def structure_amplitudes(frames: np.ndarray) -> np.ndarray:
    """Amplitude of the structure that three images share, free of noise and background.

    The noise of different images is independent, so their cross-spectra hold none of it.
    """
    n = frames.shape[-1]
    window = np.hanning(n)[:, None] * np.hanning(n)[None, :]
    wide = frames.mean(axis=1)
    spectra = np.fft.fft2((wide - wide.mean(axis=(1, 2), keepdims=True)) * window)
    f = np.fft.fftfreq(n, 0.0626)
    radius = np.hypot(f[:, None], f[None, :])
    used = spectra[:, (radius > 0.8) & (radius < 3.4)]  # finer than haze, coarser than the optics
    c = (used @ used.conj().T).real
    power = [c[0, 1] * c[0, 2] / c[1, 2], c[0, 1] * c[1, 2] / c[0, 2], c[0, 2] * c[1, 2] / c[0, 1]]
    return np.sqrt(power)


@pytest.mark.parametrize("measured", [False, True])
def test_stripes_brightness_and_report(real_data: Path, tmp_path: Path, measured: bool) -> None:
    reconstruct_raw_file(
        real_data / STACK,
        tmp_path / "out",
        making=Making(otf_file=real_data / OTF if measured else None, report=not measured),
    )
    about = json.loads((tmp_path / "out" / "gi_sim_microtubules_raw_parameters.json").read_text())
    found = about["sim_parameters"]
    assert about["optics"]["transfer"] == ("measured" if measured else "closed form")
    np.testing.assert_allclose(found["frequency"], FREQUENCY, atol=0.05)
    turned = (np.array(found["angle_rad"]) - ANGLES + np.pi / 2) % np.pi - np.pi / 2
    np.testing.assert_allclose(turned, 0, atol=0.01)
    assert found["usable"] == [True, True, True]

    frames = read_raw_stack(real_data / STACK).plane()[0].astype(float)
    before = structure_amplitudes(frames)
    after = before * np.array(found["gain"][0])
    assert np.ptp(before) / before.mean() > 0.15
    np.testing.assert_allclose(after / after.mean(), 1, atol=0.04)

    if measured:
        return
    report = json.loads((tmp_path / "out" / "gi_sim_microtubules_raw_report.json").read_text())
    assert report["residual"]["score"] < 1.05
    assert report["split_exposure"]["sim"]["resolution_um"] < 0.165
    assert report["split_exposure"]["widefield"]["resolution_um"] > 0.18
    kinds = {one["kind"] for one in report["findings"]}
    assert {"haze", "noisy_stripes"} <= kinds
    assert not any(one["serious"] for one in report["findings"])
