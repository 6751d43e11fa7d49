"""Model bundles: round trip, every kind of damage, and a full disk."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tisr_scope.bundles import bundle as module
from tisr_scope.bundles import bundle_description
from tisr_scope.bundles.bundle import Bundle, load_bundle, save_bundle, write_calibration
from tisr_scope.bundles.bundle_description import BundleOptics
from tisr_scope.errors import BundleError
from tisr_scope.networks.config import small
from tisr_scope.networks.dpa_tisr import DpaTisr
from tisr_scope.normalise import Normalisation

CONFIG = small().model_copy(
    update={"channels": 4, "output_channels": 4, "deformable_groups": 2, "flow_levels": 2}
)
OPTICS = BundleOptics(numerical_aperture=1.49, pixel_size_um=0.065, emission_nm=525)


def network(seed: int = 0) -> DpaTisr:
    torch.manual_seed(seed)
    return DpaTisr(CONFIG)


def save(folder, seed: int = 0, **changes) -> Bundle:
    settings = {
        "normalisation": Normalisation(percentile=99.5),
        "optics": OPTICS,
        "training": {"steps": 5, "recordings": ["a", "b"]},
        "licence": "CC0-1.0",
        "card": "# A model\n",
        **changes,
    }
    return save_bundle(folder, network(seed), **settings)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tubes"
    save(folder)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "tubes")


def test_what_is_saved_is_read_back(original):
    bundle = load_bundle(original)
    assert (bundle.name, bundle.path, bundle.licence) == ("tubes", original, "CC0-1.0")
    assert bundle.config == CONFIG
    assert bundle.normalisation == Normalisation(percentile=99.5)
    assert bundle.optics == OPTICS
    assert bundle.training == {"steps": 5, "recordings": ["a", "b"]}
    assert bundle.calibration is None
    assert (original / "README.md").read_text() == "# A model\n"
    x = torch.rand(1, 7, 1, 24, 24)
    with torch.inference_mode():
        assert torch.equal(bundle.network()(x), network().eval()(x))
    assert not bundle.network().training
    assert bundle.self_test() < 1e-5


def test_a_network_from_a_bundle_trains_without_changing_it(original):
    bundle = load_bundle(original)
    trained = bundle.network().train()
    trained(torch.rand(1, 3, 1, 16, 16)).mean().backward()
    torch.optim.SGD(trained.parameters(), lr=1).step()
    assert bundle.self_test() < 1e-5


def test_saving_again_replaces_and_leaves_nothing_behind(folder):
    before = load_bundle(folder).weights_hash
    assert save(folder, seed=1).weights_hash != before
    assert [p.name for p in folder.parent.iterdir()] == ["tubes"]


def test_a_full_disk_leaves_the_old_bundle(folder, monkeypatch):
    before = load_bundle(folder).weights_hash

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BundleError, match=r"No space left[\s\S]*free disk space"):
        save(folder, seed=1)
    with pytest.raises(BundleError, match="No space left"):
        write_calibration(folder, {"k": 1})
    monkeypatch.undo()
    after = load_bundle(folder)
    assert after.weights_hash == before
    assert after.calibration is None
    assert after.self_test() < 1e-5
    assert [p.name for p in folder.parent.iterdir()] == ["tubes"]


def test_a_rename_that_fails_puts_the_old_bundle_back(folder, monkeypatch):
    before = load_bundle(folder).weights_hash
    rename = module.Path.replace

    def failing(self, target):
        if self.name == "new":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(module.Path, "replace", failing)
    with pytest.raises(BundleError, match="Permission denied"):
        save(folder, seed=1)
    assert load_bundle(folder).weights_hash == before


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    broken = network()
    with torch.no_grad():
        broken.conv_hr.weight[0] = float("nan")
    with pytest.raises(BundleError, match=r"1 tensors, the first is conv_hr.weight"):
        save_bundle(tmp_path / "new", broken, normalisation=Normalisation())
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_name_is_refused(tmp_path):
    with pytest.raises(BundleError, match="letters, digits"):
        save(tmp_path / "two words")


def test_calibration_goes_in_and_out(folder):
    write_calibration(folder, {"k": 1.5, "curve": [0, 1]})
    assert load_bundle(folder).calibration == {"k": 1.5, "curve": [0, 1]}
    with pytest.raises(BundleError, match="cannot be written"):
        write_calibration(folder, {"k": float("nan")})
    assert load_bundle(folder).calibration == {"k": 1.5, "curve": [0, 1]}
    (folder / "calibration.json").write_text("{")
    with pytest.raises(BundleError, match="calibration cannot be read"):
        load_bundle(folder)
    (folder / "calibration.json").write_text("[]")
    with pytest.raises(BundleError, match="not a JSON object"):
        load_bundle(folder)


def test_an_unknown_name_lists_what_is_shipped(tmp_path, monkeypatch, original):
    monkeypatch.setattr(bundle_description, "shipped_folder", lambda kind: original.parent)
    with pytest.raises(BundleError, match=r"no model bundle 'tubez'[\s\S]*shipped one: tubes"):
        load_bundle("tubez")
    assert load_bundle("tubes").path == original
    with pytest.raises(BundleError, match="no model bundle"):
        load_bundle(tmp_path / "absent")
    with pytest.raises(BundleError, match=r"no model\.yaml"):
        load_bundle(tmp_path)


def rewrite(folder, **changes) -> None:
    path = folder / "model.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(content | changes))


def reweigh(folder, change) -> None:
    """Change the weights and let the description name the new ones, as a forger would."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    digest = module.hashlib.sha256(path.read_bytes()).hexdigest()
    rewrite(folder, weights_sha256=digest)


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-7] ^= 1
    path.write_bytes(raw)


def architecture(**changes):
    return CONFIG.model_dump(mode="json") | changes


DAMAGE = {
    "weights missing": (lambda f: (f / "model.safetensors").unlink(), "weights cannot be read"),
    "weights cut": (lambda f: cut(f / "model.safetensors"), "not those the description names"),
    "one bit": (lambda f: flip(f / "model.safetensors"), "not those the description names"),
    "description missing": (lambda f: (f / "model.yaml").unlink(), "no model bundle|no model.yaml"),
    "no YAML": (lambda f: (f / "model.yaml").write_text("{a: ["), "cannot be read"),
    "no mapping": (lambda f: (f / "model.yaml").write_text("3"), "format None"),
    "newer format": (lambda f: rewrite(f, format_version=2), "format 2"),
    "unknown key": (lambda f: rewrite(f, colour="red"), "colour: Extra inputs"),
    "unknown architecture key": (
        lambda f: rewrite(f, architecture=architecture(depth=3)),
        "architecture.depth: Extra inputs",
    ),
    "other architecture": (
        lambda f: rewrite(f, architecture=architecture(reconstruction_blocks=3)),
        "4 missing .reconstruction.main.2.2.conv1.bias",
    ),
    "other width": (lambda f: rewrite(f, architecture=architecture(channels=8)), "wrong shape"),
    "NaN": (
        lambda f: reweigh(f, lambda w: w["conv_last.bias"].fill_(float("nan"))),
        "NaN or infinite in 1 tensors, the first is conv_last.bias",
    ),
    "key missing": (lambda f: reweigh(f, lambda w: w.pop("conv_hr.bias")), "1 missing .conv_hr"),
    "key too many": (
        lambda f: reweigh(f, lambda w: w.update(more=torch.zeros(2))),
        "1 unknown .more",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_named(folder, kind):
    damage, message = DAMAGE[kind]
    damage(folder)
    with pytest.raises(BundleError, match=message) as caught:
        load_bundle(folder)
    assert caught.value.remedy


def test_weights_that_are_no_safetensors(folder):
    path = folder / "model.safetensors"
    path.write_bytes(b"not a tensor file at all")
    rewrite(folder, weights_sha256=module.hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(BundleError, match="damaged"):
        load_bundle(folder)


def test_self_test_finds_another_output_and_a_missing_file(folder):
    path = folder / "check.npz"
    with np.load(path) as stored:
        x, y = stored["input"], stored["output"]
    np.savez(path, input=x, output=y + np.float32(0.01))
    with pytest.raises(BundleError, match=r"differs from the recorded one by 0.01"):
        load_bundle(folder).self_test()
    np.savez(path, input=x, output=y[..., 1:])
    with pytest.raises(BundleError, match="the recorded one"):
        load_bundle(folder).self_test()
    path.write_text(json.dumps({}))
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(folder).self_test()
    path.unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(folder).self_test()
