"""The released preset computes what the authors' implementation computed."""

import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from tisr_scope.networks.config import DpaTisrConfig, released
from tisr_scope.networks.dpa_tisr import DpaTisr

FOLDER = Path(
    os.environ.get("TISR_FIXTURES", Path(__file__).resolve().parents[2] / "shared" / "fixtures")
)
NAMES = ("released_x2", "released_x2_bayesian")
pytestmark = pytest.mark.skipif(
    not all((FOLDER / f"{n}.npz").is_file() for n in NAMES),
    reason="the fixtures of the released network are not here; set TISR_FIXTURES",
)


def weights(name: str, shape: list[int]) -> torch.Tensor:
    """The weights of the fixtures, which follow from the names of the tensors."""
    if name in {"spynet.mean", "spynet.std"}:
        fixed = (0.485, 0.456, 0.406) if name.endswith("mean") else (0.229, 0.224, 0.225)
        return torch.tensor(fixed).view(1, 3, 1, 1)
    count = int(np.prod(shape))
    index = np.arange(count, dtype=np.uint64)
    crc = np.uint64(zlib.crc32(name.encode()))
    mixed = (index * np.uint64(2654435761) + crc) & np.uint64(0xFFFFFFFFFFFF)
    mixed = (mixed * np.uint64(0x9E3779B1)) & np.uint64(0xFFFFFFFF)
    u = ((mixed >> np.uint64(3)) % np.uint64(2**24)).astype(np.float64) / 2**24 - 0.5
    if len(shape) == 1:
        amplitude = 0.02
    else:
        gain = 0.6 if name.startswith("spynet") else 0.42
        amplitude = gain * np.sqrt(12 / np.prod(shape[1:]))
    return torch.from_numpy((u * amplitude).astype(np.float32).reshape(shape))


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest) -> tuple[DpaTisr, dict[str, np.ndarray]]:
    with np.load(FOLDER / f"{request.param}.npz") as stored:
        arrays = {k: stored[k] for k in stored.files}
    said = json.loads(str(arrays["config"]))
    config = DpaTisrConfig(
        bayesian=said["bayesian"],
        upscale=said["factor"],
        channels=said["mid_channels"],
        extraction_blocks=said["extraction_nblocks"],
        propagation_blocks=said["propagation_nblocks"],
        reconstruction_blocks=said["reconstruction_nblocks"],
    )
    network = DpaTisr(config).eval()
    keys = json.loads(str(arrays["keys"]))
    network.load_state_dict({name: weights(name, shape) for name, shape in keys.items()})
    return network, arrays


def test_tensor_names_and_shapes_are_the_published_ones(case):
    network, arrays = case
    ours = {k: list(v.shape) for k, v in network.state_dict().items()}
    assert list(ours.items()) == list(json.loads(str(arrays["keys"])).items())


def test_flows_and_output_equal_the_published_ones(case):
    network, arrays = case
    x = torch.from_numpy(arrays["x"])
    with torch.inference_mode():
        forward, backward = network.flows(x)
        y = network(x)
    np.testing.assert_allclose(forward, arrays["flows_forward"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(backward, arrays["flows_backward"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(y, arrays["y"], atol=1e-4, rtol=0)
    # Not everything that agrees to 1e-4 agrees for a reason: the outputs must vary much more.
    assert arrays["y"].std() > 1e-2


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (released(bayesian=False), 6_581_805),
        (released(bayesian=False, upscale=3), 6_766_445),
        (released(), 6_582_382),
        (released(upscale=3), 6_767_022),
        (
            DpaTisrConfig(
                bayesian=False, extraction_blocks=5, propagation_blocks=5, reconstruction_blocks=5
            ),
            7_320_365,
        ),
    ],
)
def test_sizes_are_the_published_ones(config, parameters):
    with torch.device("meta"):
        network = DpaTisr(config)
    assert sum(p.numel() for p in network.parameters()) == parameters
