"""The training loop learns, resumes to the bit, and stops without losing anything."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from tisr_scope.bundles.bundle import load_bundle
from tisr_scope.errors import DataError, TrainingError
from tisr_scope.formats.ome_tiff import write_series
from tisr_scope.networks.dpa_tisr import DpaTisr, DpaTisrConfig, small
from tisr_scope.networks.optical_flow import SPyNet
from tisr_scope.normalise import Normalisation
from tisr_scope.pairs.patches import PatchSampler, PatchSettings
from tisr_scope.training import checkpoint, run_records
from tisr_scope.training.checkpoint import write_atomic
from tisr_scope.training.loop import TrainingSummary, fit
from tisr_scope.training.losses import SCALE_FLOOR, l1, laplace_nll, objective
from tisr_scope.training.settings import TrainingSettings
from tisr_scope.training.train import train
from tisr_scope.training.validation import psnr_db
from tisr_scope.types import PairedStack

TEMPORAL = small().model_copy(
    update={"channels": 4, "output_channels": 4, "flow_channels": 4, "flow_levels": 2}
)
CONFIG = TEMPORAL.model_copy(update={"temporal": False})
"""The single-frame counterpart: the loop is the same and the steps are quick."""
PATCHES = PatchSettings(frames=3, size_px=32)


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer than the runs here; the test that looks at them has them drawn."""
    if "pictures" not in request.node.name:
        for name in ("draw_losses", "draw_samples"):
            monkeypatch.setattr(run_records, name, lambda *_, **__: None)


def cell(name: str, seed: int = 0, size: int = 40) -> PairedStack:
    """Points that drift, seen sharply (target) and through a wide PSF with photon noise."""
    rng = np.random.default_rng(seed)
    fine = np.zeros((5, 2 * size, 2 * size))
    for y, x in rng.integers(8, 2 * size - 8, (60, 2)):
        for t in range(5):
            fine[t, y, x + t] = 1
    target = gaussian_filter(fine, (0, 1.2, 1.2))
    wide = gaussian_filter(fine, (0, 4, 4)).reshape(5, size, 2, size, 2).mean((2, 4))
    wide = rng.poisson(200 * wide / wide.max()).astype(np.float32)
    return PairedStack(
        name=name,
        channel="488",
        widefield=wide[None],
        target=target.astype(np.float32),
        pixel_size_um=0.0626,
        interval_s=1.0,
    )


def settings(**changes: object) -> TrainingSettings:
    plain: dict[str, object] = {
        "steps": 8,
        "batch": 2,
        "patches": PATCHES,
        "warmup_steps": 2,
        "l1_warmup_steps": 3,
        "log_every": 1,
        "validate_every": 4,
        "validation_patches": 2,
        "checkpoint_every": 4,
    }
    return TrainingSettings.model_validate(plain | changes)


def run(
    out: Path,
    chosen: TrainingSettings,
    *,
    config: DpaTisrConfig = CONFIG,
    network: torch.nn.Module | None = None,
    **options: object,
) -> TrainingSummary:
    torch.manual_seed(chosen.seed)
    samplers = [
        PatchSampler([cell(name, k)], Normalisation(), chosen.patches, batch=chosen.batch)
        for k, name in enumerate(("train", "validation"))
    ]
    return fit(
        network or DpaTisr(config),
        *samplers,
        chosen,
        out,
        architecture=config.model_dump(mode="json"),
        **options,  # type: ignore[arg-type]
    )


def history(out: Path) -> list[dict[str, str]]:
    with (out / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------------------------- losses


def test_likelihood_is_least_at_the_closed_form_scale() -> None:
    torch.manual_seed(0)
    target = torch.randn(1, 2, 1, 16, 16, dtype=torch.float64)
    mean = torch.zeros_like(target)
    best = target.abs().mean()

    def at(b: torch.Tensor) -> float:
        return float(laplace_nll(mean, b.expand_as(mean), target))

    assert at(best - SCALE_FLOOR) == pytest.approx(1 + float(best.log()), rel=1e-9)
    assert at(best - SCALE_FLOOR) < min(at(best * 1.01), at(best * 0.99))
    b = best.clone().requires_grad_()
    laplace_nll(mean, b.expand_as(mean), target).backward()
    assert b.grad is not None and abs(float(b.grad)) < 1e-5


def test_likelihood_agrees_with_the_distribution_of_torch() -> None:
    torch.manual_seed(1)
    mean, target = torch.randn(2, 1, 2, 1, 8, 8, dtype=torch.float64)
    scale = torch.rand_like(mean) + 0.1
    reference = -torch.distributions.Laplace(mean, scale + SCALE_FLOOR).log_prob(target)
    ours = float(laplace_nll(mean, scale, target))
    assert ours == pytest.approx(float(reference.mean()) - np.log(2), rel=1e-9)


def test_objective_follows_the_outputs_of_the_network() -> None:
    output, target = torch.rand(2, 3, 2, 8, 8), torch.rand(2, 3, 1, 8, 8)
    mean, scale = output[:, :, :1], output[:, :, 1:]
    assert objective(output, target) == laplace_nll(mean, scale, target)
    assert objective(output, target, mean_only=True) == l1(mean, target)
    assert objective(mean, target) == (mean - target).abs().mean()


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(DataError, match="the network gives"):
        l1(torch.zeros(1, 1, 1, 8, 8), torch.zeros(1, 7, 1, 8, 8))
    with pytest.raises(DataError, match="not 3 outputs"):
        objective(torch.zeros(1, 1, 3, 8, 8), torch.zeros(1, 1, 1, 8, 8))


def test_psnr_is_that_of_the_best_linear_transform() -> None:
    rng = np.random.default_rng(0)
    target = rng.uniform(size=(2, 20, 20))
    image = 3 * target - 1 + rng.normal(0, 0.3, target.shape)
    design = np.stack([image.ravel(), np.ones(image.size)], 1)
    _, squares, *_ = np.linalg.lstsq(design, target.ravel(), rcond=None)
    expected = -10 * np.log10(squares[0] / target.size)
    assert psnr_db(torch.from_numpy(image), torch.from_numpy(target)) == pytest.approx(expected)


# ----------------------------------------------------------------------------------- schedule


def test_cosine_rises_falls_and_follows_steps_not_time() -> None:
    chosen = settings(steps=100, max_minutes=5, warmup_steps=10, learning_rate=1e-3)
    rates = [chosen.rate(step, minutes=123.0) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4, rel=0.01)
    assert max(rates) == pytest.approx(1e-3, rel=0.03) and 8 <= int(np.argmax(rates)) <= 11
    assert np.all(np.diff(rates[10:]) < 0)
    assert rates[50] == pytest.approx((1 + 0.01) / 2 * 1e-3)
    assert chosen.rate(100, 0.0) == pytest.approx(1e-5)
    timed = settings(steps=None, max_minutes=5, warmup_steps=0, learning_rate=1e-3)
    assert timed.rate(7, 2.5) == pytest.approx((1 + 0.01) / 2 * 1e-3)


def test_rate_halves_as_in_the_paper() -> None:
    chosen = settings(
        schedule="halving", learning_rate=5e-5, halve_every_steps=1000, warmup_steps=0
    )
    assert [chosen.rate(s, 0) for s in (0, 999, 1000, 2500)] == [5e-5, 5e-5, 2.5e-5, 1.25e-5]


def test_a_run_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="needs an end"):
        settings(steps=None)


# --------------------------------------------------------------------------------------- loop


def test_one_patch_can_be_learnt_by_heart_with_pictures(tmp_path: Path) -> None:
    chosen = settings(
        steps=50,
        batch=1,
        learning_rate=1e-2,
        log_every=5,
        validate_every=50,
        checkpoint_every=50,
        patches=PATCHES.model_copy(update={"size_px": 40, "frames": 2}).without_augmentation(),
    )
    config = TEMPORAL.model_copy(update={"bayesian": False, "channels": 8, "dropout_in": ()})
    run(tmp_path, chosen, config=config)
    losses = [float(row["loss"]) for row in history(tmp_path)]
    assert losses[-1] < 0.35 * losses[0]
    assert {p.name for p in tmp_path.iterdir()} - {"tensorboard"} == {
        "checkpoints",
        "history.csv",
        "losses.png",
        "samples.png",
        "settings.yaml",
    }
    if find_spec("tensorboard"):
        assert next((tmp_path / "tensorboard").glob("events*")).stat().st_size > 500


def test_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path: Path) -> None:
    chosen = settings(log_every=2, checkpoint_every=3)
    whole = run(tmp_path / "whole", chosen, config=TEMPORAL)
    cancel = threading.Event()

    def stop_after_five(done: int, total: int) -> None:
        assert total == 8
        if done == 5:
            cancel.set()

    halted = run(
        tmp_path / "halted",
        chosen,
        config=TEMPORAL,
        progress=stop_after_five,
        cancel=cancel,
    )
    assert (halted.ended, halted.steps) == ("cancelled", 5)
    torch.rand(100)  # another random state than the one the run was left with
    resumed = run(tmp_path / "halted", chosen, config=TEMPORAL, resume=True)
    assert (resumed.ended, resumed.steps) == ("steps", 8)
    same = ("step", "loss", "gradient_norm", "learning_rate", "validation_loss")
    for a, b in zip(history(tmp_path / "whole"), history(tmp_path / "halted"), strict=True):
        assert [a[k] for k in same] == [b[k] for k in same]
    assert resumed.validation_loss == whole.validation_loss
    a, b = (
        torch.load(tmp_path / name / "checkpoints" / "last.pt", weights_only=True)
        for name in ("whole", "halted")
    )
    for part in ("network", "averaged", "best"):
        for key, value in a[part].items():
            assert torch.equal(value, b[part][key]), (part, key)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_the_end_of_a_job_save_and_end_cleanly(
    number: signal.Signals, tmp_path: Path
) -> None:
    before = signal.getsignal(number)

    def send(done: int, total: int) -> None:
        if done == 2:
            os.kill(os.getpid(), number)

    summary = run(tmp_path, settings(), progress=send)
    assert (summary.ended, summary.steps) == ("cancelled", 2)
    assert torch.load(summary.checkpoint, weights_only=True)["step"] == 2
    assert signal.getsignal(number) is before


def test_time_ends_a_run(tmp_path: Path) -> None:
    summary = run(tmp_path, settings(steps=None, max_minutes=1e-4))
    assert (summary.ended, summary.steps) == ("time", 1)
    assert np.isfinite(summary.validation_psnr_db)


class Diverging(torch.nn.Module):
    """A network whose output is not a number from a given step on."""

    def __init__(self, healthy_steps: int) -> None:
        super().__init__()
        self.network = DpaTisr(CONFIG)
        self.left = healthy_steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.left -= self.training
        out: torch.Tensor = self.network(x)
        return out if self.left >= 0 else out * torch.nan


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path,
) -> None:
    with pytest.raises(TrainingError, match=r"loss nan .* at step 6") as caught:
        run(tmp_path, settings(), network=Diverging(6))
    assert "train, channel 488, stage position 0, level 1, from time point" in str(
        caught.value.where
    )
    kept = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    assert kept["step"] == 4
    assert all(v.isfinite().all() for v in kept["network"].values())


def test_a_full_disk_leaves_the_old_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, settings(steps=4))
    path = tmp_path / "checkpoints" / "last.pt"
    old = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "fsync", full)
        with pytest.raises(TrainingError, match="disk is full"):
            run(tmp_path, settings(), resume=True)
    assert path.read_bytes() == old
    assert not list(tmp_path.rglob("*.partial"))
    assert run(tmp_path, settings(), resume=True).steps == 8


def test_a_file_cut_short_by_the_system_leaves_the_old_one(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="file size limits need POSIX")
    path = tmp_path / "last.pt"
    write_atomic(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(TrainingError, match="full"):
            write_atomic(path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_runs_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    run(tmp_path, settings(steps=2))
    with pytest.raises(TrainingError, match="already holds"):
        run(tmp_path, settings(steps=2))
    with pytest.raises(TrainingError, match=r"settings\.learning_rate"):
        run(tmp_path, settings(learning_rate=0.02), resume=True)
    with pytest.raises(TrainingError, match=r"architecture\.channels"):
        run(
            tmp_path,
            settings(),
            config=CONFIG.model_copy(update={"channels": 8}),
            resume=True,
        )


def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_kept(tmp_path: Path) -> None:
    chosen = settings(steps=4, checkpoint_every=1, schedule="constant")
    whole = run(tmp_path / "whole", chosen)
    run(tmp_path / "cut", chosen.model_copy(update={"steps": 3}))
    folder = tmp_path / "cut" / "checkpoints"
    content = (folder / "last.pt").read_bytes()
    assert torch.load(folder / "previous.pt", weights_only=True)["step"] == 2
    for damaged in (b"not a checkpoint", content[: len(content) // 2]):
        (folder / "last.pt").write_bytes(damaged)
        with pytest.raises(TrainingError, match="cannot be read") as caught:
            run(tmp_path / "cut", chosen, resume=True)
        assert "previous.pt" in str(caught.value.remedy)
    # What the message says to do.
    (folder / "last.pt").unlink()
    resumed = run(tmp_path / "cut", chosen, resume=True)
    assert resumed.validation_loss == whole.validation_loss


def test_one_turned_bit_anywhere_is_refused(tmp_path: Path) -> None:
    run(tmp_path, settings(steps=1))
    path = tmp_path / "checkpoints" / "last.pt"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    places = [*rng.integers(0, len(whole), 60), len(whole) - 1, len(whole) - 65, len(whole) - 66]
    for place in places:
        turned = bytearray(whole)
        turned[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(turned)
        with pytest.raises(TrainingError, match="checksum"):
            run(tmp_path, settings(steps=1), resume=True)
    path.write_bytes(whole)
    assert run(tmp_path, settings(steps=1), resume=True).steps == 1


def test_a_batch_in_parts_gives_the_gradient_of_the_whole(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"dropout_in": ()})
    whole = settings(steps=2, batch=4, learning_rate=1e-4)
    run(tmp_path / "whole", whole, config=config)
    parts = whole.model_copy(update={"micro_batch": 1})
    run(tmp_path / "parts", parts, config=config)
    first, second = zip(history(tmp_path / "whole"), history(tmp_path / "parts"), strict=True)
    a, b = (float(row["gradient_norm"]) for row in first)
    # In empty background rounding decides the sign of an error, which is the gradient of L1.
    assert a == pytest.approx(b, rel=1e-3)
    a, b = (float(row["loss"]) for row in second)
    assert a == pytest.approx(b, rel=1e-5)
    with pytest.raises(ValueError, match="no multiple of 3"):
        settings(batch=4, micro_batch=3)


def test_activations_computed_twice_change_nothing(tmp_path: Path) -> None:
    config = TEMPORAL.model_copy(update={"dropout_in": ("propagation", "reconstruction")})
    for name, recompute in (("kept", False), ("twice", True)):
        run(tmp_path / name, settings(steps=2, recompute=recompute), config=config)
    for a, b in zip(history(tmp_path / "kept"), history(tmp_path / "twice"), strict=True):
        assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=1e-5)
        # Rounding decides the sign of an error in empty background, as above.
        assert float(a["gradient_norm"]) == pytest.approx(float(b["gradient_norm"]), rel=1e-3)


def test_half_precision_learns_and_keeps_single_precision_weights(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"bayesian": False, "dropout_in": ()})
    for name, precision in (("fp32", "fp32"), ("bf16", "bf16")):
        run(tmp_path / name, settings(precision=precision), config=config)
    exact, half = (float(history(tmp_path / n)[0]["loss"]) for n in ("fp32", "bf16"))
    # Eight bits of mantissa: half a per cent, and not the same to the last digit.
    assert half == pytest.approx(exact, rel=0.02) and half != exact
    kept = torch.load(tmp_path / "bf16" / "checkpoints" / "last.pt", weights_only=True)
    assert {v.dtype for v in kept["network"].values()} == {torch.float32}


def test_a_run_ends_where_it_gains_no_more(tmp_path: Path) -> None:
    too_fast = {"learning_rate": 0.1, "ema_decay": 0.0, "schedule": "constant"}
    plain = CONFIG.model_copy(update={"bayesian": False})
    chosen = settings(steps=40, validate_every=2, patience=3, **too_fast)
    summary = run(tmp_path / "worse", chosen, config=plain)
    assert summary.ended == "no improvement"
    assert summary.steps == summary.best_step + 2 * 3
    losses = [float(row["validation_loss"] or "nan") for row in history(tmp_path / "worse")]
    assert np.nanmin(losses) == summary.validation_loss


def test_optical_flow_can_wait(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = DpaTisr(TEMPORAL)
    start = {k: v.clone() for k, v in network.state_dict().items()}
    seen: list[bool] = []

    def look(done: int, total: int) -> None:
        moved = [k for k, v in network.state_dict().items() if not torch.equal(v, start[k])]
        assert any(not k.startswith("spynet.") for k in moved)
        seen.append(any(k.startswith("spynet.") for k in moved))

    chosen = settings(steps=4, flow_frozen_steps=2, validate_every=100)
    run(tmp_path, chosen, network=network, progress=look)
    assert seen == [False, False, True, True]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError, match="cannot be made"):
        run(tmp_path / "file", settings())


def test_validation_recordings_are_never_trained_on(tmp_path: Path) -> None:
    sampler = PatchSampler([cell("same")], Normalisation(), PATCHES, batch=1)
    with pytest.raises(TrainingError, match="also trained on: same"):
        fit(DpaTisr(CONFIG), sampler, sampler, settings(), tmp_path, architecture={})


def test_optical_flow_learns_at_its_own_rate(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = DpaTisr(TEMPORAL)
    start = {k: v.clone() for k, v in network.state_dict().items()}
    run(tmp_path, settings(steps=3, flow_rate_factor=0), network=network)
    for key, value in network.state_dict().items():
        if key.startswith("spynet."):
            assert torch.equal(value, start[key])
    assert not torch.equal(network.conv_last.weight, start["conv_last.weight"])


# ------------------------------------------------------------------------- pairs to a bundle


def write_pairs(folder: Path, size: int = 40) -> None:
    """Prepared pairs as they lie on disk; the test pair is a name without any file."""
    for k, name in enumerate(("one", "two", "held_back")):
        stack, pair = cell(name, k, size), folder / f"{name}_488"
        pair.mkdir(parents=True)
        write_series(pair / "widefield_level_1.ome.tif", stack.widefield[0], 0.0626, 1.0, "wf")
        write_series(pair / "target.ome.tif", stack.target, 0.0313, 1.0, "sim")
        about = {
            "recording": name,
            "channel": "488",
            "levels": 1,
            "pixel_size_um": 0.0626,
            "interval_s": 1.0,
            "made_from": {"otf": {"numerical_aperture": 1.49, "emission_nm": 525.0}},
        }
        (pair / "pair.json").write_text(json.dumps(about))
    split = {"train": ["one_488", "two_488"], "validation": ["held_back_488"], "test": ["gone"]}
    (folder / "split.json").write_text(json.dumps(split))


def test_pairs_become_a_bundle_that_can_be_loaded(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs")
    random = torch.get_rng_state()
    summary = train(tmp_path / "pairs", TEMPORAL, settings(steps=4), tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), random), "the caller's random numbers are left alone"
    assert summary.bundle == tmp_path / "run" / "bundle"
    bundle = load_bundle(summary.bundle)
    assert bundle.self_test() < 1e-4
    assert bundle.training["recordings"] == {"train": ["one", "two"], "validation": ["held_back"]}
    assert bundle.training["steps"] == 4
    assert bundle.optics is not None and bundle.optics.numerical_aperture == 1.49
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.pt", weights_only=True)
    for key, value in bundle.network().state_dict().items():
        assert torch.equal(value, best["network"][key])

    again = train(tmp_path / "pairs", TEMPORAL, settings(steps=4), tmp_path / "run", resume=True)
    assert (again.steps, again.validation_loss) == (4, summary.validation_loss)
    assert load_bundle(summary.bundle).weights_hash == bundle.weights_hash


def test_a_pretrained_flow_is_what_the_network_starts_from(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs", 72)
    torch.manual_seed(8)
    flow = SPyNet().state_dict()
    torch.save({"params": flow}, tmp_path / "spynet.pth")
    config = TEMPORAL.model_copy(update={"flow": "spynet"})
    patches = PatchSettings(frames=2, size_px=64)
    chosen = settings(steps=1, batch=1, flow_rate_factor=0.0, patches=patches)
    given = {"flow": tmp_path / "spynet.pth"}
    summary = train(tmp_path / "pairs", config, chosen, tmp_path / "run", **given)
    assert summary.bundle is not None
    bundle = load_bundle(summary.bundle)
    for name, value in flow.items():
        assert torch.equal(bundle.weights[f"spynet.{name}"], value)
    assert bundle.training["flow_started_from"]["file"] == "spynet.pth"
    assert "started from `spynet.pth`" in (summary.bundle / "README.md").read_text()
    with pytest.raises(TrainingError, match=r"another architecture\.flow_started_from"):
        train(tmp_path / "pairs", config, chosen, tmp_path / "run", resume=True)
    with pytest.raises(TrainingError, match="preset has none"):
        train(tmp_path / "pairs", TEMPORAL, chosen, tmp_path / "other", **given)


def test_a_cancelled_run_leaves_no_bundle(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs")
    cancel = threading.Event()
    cancel.set()
    summary = train(tmp_path / "pairs", CONFIG, settings(), tmp_path / "run", cancel=cancel)
    assert (summary.ended, summary.bundle) == ("cancelled", None)
    assert summary.checkpoint.exists() and not (tmp_path / "run" / "bundle").exists()


def test_a_network_of_another_upscale_is_refused_before_training(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs")
    with pytest.raises(TrainingError, match="targets are x2"):
        train(
            tmp_path / "pairs",
            CONFIG.model_copy(update={"upscale": 3}),
            settings(),
            tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a computer without CUDA")
def test_a_missing_gpu_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no CUDA device"):
        train(tmp_path, CONFIG, settings(), tmp_path / "run", device="cuda")


def test_squares_keep_the_light_of_a_structure_that_is_likely_but_not_certain() -> None:
    """Of a pixel that is 1 in three of ten cases the median leaves nothing, the mean a part."""
    target = torch.tensor([1.0] * 3 + [0.0] * 7).view(10, 1, 1, 1, 1)

    def best(square_weight: float) -> float:
        places = torch.linspace(0, 1, 101)
        losses = []
        for place in places:
            b = (target - place).abs().mean().expand_as(target)
            output = torch.cat((place.expand_as(target), b), dim=2)
            losses.append(float(objective(output, target, square_weight=square_weight)))
        return float(places[int(np.argmin(losses))])

    assert best(0.0) == 0
    assert 0.1 < best(10.0) < 0.35
