"""Models in and out: authors' checkpoints, BioImage.IO packages, and the table of the readme."""

import hashlib
import importlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from test_released_fixtures import FOLDER, NAMES, weights
from typer.testing import CliRunner

from tisr_scope.bundles.bundle import load_bundle, save_bundle
from tisr_scope.bundles.bundle_description import BundleOptics
from tisr_scope.bundles.model_import import import_checkpoint, parse_optics
from tisr_scope.cli import app
from tisr_scope.errors import BundleError
from tisr_scope.networks.config import DpaTisrConfig, small
from tisr_scope.networks.dpa_tisr import DpaTisr
from tisr_scope.networks.presets import PRESETS
from tisr_scope.normalise import Normalisation

ROOT = Path(__file__).resolve().parents[1]
OPTICS = "numerical_aperture=1.49,pixel_size_um=0.0626,emission_nm=525"
RELEASED = DpaTisrConfig(
    channels=8, output_channels=8, bayesian=False, extraction_blocks=1, reconstruction_blocks=1
)
runner = CliRunner()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save({"params": DpaTisr(RELEASED).state_dict()}, tmp_path / "MTs.pth")
    return tmp_path / "MTs.pth"


# ---------------------------------------------------------------------------------------- import


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.skipif(
    not all((FOLDER / f"{n}.npz").is_file() for n in NAMES),
    reason="the fixtures of the released network are not here; set TISR_FIXTURES",
)
def test_an_imported_checkpoint_gives_the_published_output(name: str, tmp_path: Path) -> None:
    with np.load(FOLDER / f"{name}.npz") as stored:
        arrays = {k: stored[k] for k in stored.files}
    shapes = json.loads(str(arrays["keys"]))
    torch.save({k: weights(k, shape) for k, shape in shapes.items()}, tmp_path / "a.pth")
    import_checkpoint(tmp_path / "a.pth", tmp_path / "mine", optics=parse_optics(OPTICS))
    bundle = load_bundle(tmp_path / "mine")
    inputs = next(arrays[k] for k in ("x", "input") if k in arrays)
    outputs = next(arrays[k] for k in ("y", "output") if k in arrays)
    with torch.inference_mode():
        found = bundle.network()(torch.from_numpy(inputs)).numpy()
    assert np.abs(found - outputs).max() < 1e-4


def test_import_from_the_command_line(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "mt_released"
    command = ["models", "import", str(checkpoint), str(folder), "--optics", OPTICS]
    command += ["--specimen", "microtubules", "--dropout-in", "extraction"]
    done = runner.invoke(app, command)
    assert done.exit_code == 0, done.output
    bundle = load_bundle(folder)
    assert bundle.optics == BundleOptics(
        numerical_aperture=1.49, pixel_size_um=0.0626, emission_nm=525
    )
    assert bundle.normalisation == Normalisation(reference="maximum")
    assert bundle.licence == "MIT"
    assert bundle.calibration is None
    assert bundle.config.dropout_in == ("extraction",)
    original = torch.load(checkpoint, weights_only=True)["params"]
    assert all(torch.equal(bundle.weights[k], v) for k, v in original.items())
    card = (folder / "README.md").read_text()
    assert "microtubules" in card
    assert bundle.training["imported_from"]["sha256"][:16] in card
    assert "Copyright (c) 2024 liushuran2" in card
    assert "shall be included in all" in card
    shown = runner.invoke(app, ["models", "show", str(folder)]).output
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    for fact in (digest, bundle.weights_hash, "MIT", "MTs.pth", "uncalibrated", "maximum"):
        assert fact in shown
    listed = runner.invoke(app, ["models", "list", str(folder), "--markdown"]).output
    assert "| mt_released | microtubules, NA 1.49, 62.6 nm px | x2 |" in listed
    assert "uncalibrated" in listed
    assert runner.invoke(app, ["models", "check", str(folder)]).exit_code == 0


def test_what_a_checkpoint_cannot_say_must_be_said(checkpoint: Path, tmp_path: Path) -> None:
    for text, message in (
        ("numerical_aperture", "not KEY=VALUE"),
        ("numerical_aperture=1.49", "pixel_size_um: Field required"),
        ("numerical_aperture=1.49,pixel_size_um=wide", "pixel_size_um"),
        ("numerical_aperture=1.49,pixel_size_um=0.0626", "lack emission_nm"),
        (OPTICS + ",magnification=100", "magnification"),
    ):
        with pytest.raises(BundleError, match=message):
            parse_optics(text)
    with pytest.raises(BundleError, match="enlarges x2, not x3"):
        import_checkpoint(checkpoint, tmp_path / "a", optics=parse_optics(OPTICS), upscale=3)
    wrong = ["models", "import", str(checkpoint), str(tmp_path / "a"), "--optics", OPTICS]
    assert runner.invoke(app, [*wrong, "--dropout-in", "nowhere"]).exit_code == 2
    assert not (tmp_path / "a").exists()
    import_checkpoint(checkpoint, tmp_path / "a", optics=parse_optics(OPTICS))
    with pytest.raises(BundleError, match="exists"):
        import_checkpoint(checkpoint, tmp_path / "a", optics=parse_optics(OPTICS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("reconstruction.main.0.weight"), "1 missing"),
        (lambda s: s.update(extra=torch.zeros(2)), r"1 unknown \(extra\)"),
        (lambda s: s.update({"conv_hr.bias": torch.zeros(3)}), "1 of wrong shape"),
        (lambda s: s["conv_hr.bias"].fill_(torch.nan), "NaN or infinite"),
        (lambda s: s.pop("conv_hr.weight"), "not those of the released network"),
    ],
    ids=["missing", "extra", "shape", "nan", "another network"],
)
def test_checkpoints_that_do_not_fit_leave_no_bundle(
    change, message: str, checkpoint: Path, tmp_path: Path
) -> None:
    state = torch.load(checkpoint, weights_only=True)["params"]
    change(state)
    torch.save(state, checkpoint)
    with pytest.raises(BundleError, match=message):
        import_checkpoint(checkpoint, tmp_path / "a", optics=parse_optics(OPTICS))
    assert not (tmp_path / "a").exists()


# ---------------------------------------------------------------------------------------- export


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("bioimageio.spec")
    folder = tmp_path_factory.mktemp("export")
    done = runner.invoke(
        app,
        ["models", "export", "microtubules_small", str(folder / "m.zip"), "--author", "A. Maker"],
    )
    assert done.exit_code == 0, done.output
    return folder / "m.zip"


def test_the_package_passes_the_validator_of_the_format(package: Path) -> None:
    spec = importlib.import_module("bioimageio.spec")
    summary = spec.load_description_and_validate_format_only(package)
    assert (summary.type, summary.status) == ("model", "valid-format")


def output_of(package: Path, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input, output found and output recorded, from the description alone."""
    shutil.unpack_archive(package, folder)
    model = importlib.import_module("bioimageio.spec").load_description(package)
    entry = model.weights.pytorch_state_dict
    made = getattr(
        importlib.import_module(entry.architecture.import_from), entry.architecture.callable
    )
    network = made(**entry.architecture.kwargs)
    name = Path(str(entry.source)).name
    network.load_state_dict(torch.load(folder / name, weights_only=True))
    x, expected = (
        np.load(folder / Path(str(t.test_tensor.source)).name)
        for t in (model.inputs[0], model.outputs[0])
    )
    with torch.inference_mode():
        return x, network.eval()(torch.from_numpy(x)).numpy(), expected


def test_the_package_computes_what_its_test_says(package: Path, tmp_path: Path) -> None:
    """As any other program would use it."""
    x, found, expected = output_of(package, tmp_path)
    assert x.shape[1:3] == (7, 1)
    assert np.abs(found - expected).max() < 1e-4
    model = importlib.import_module("bioimageio.spec").load_description(package)
    size = [axis.scale for axis in model.outputs[0].axes if axis.id in ("y", "x")]
    assert size == pytest.approx([0.0313, 0.0313])


def test_an_imported_checkpoint_can_be_exported_with_its_licence(
    checkpoint: Path, tmp_path: Path
) -> None:
    spec = pytest.importorskip("bioimageio.spec")
    from tisr_scope.bundles.bioimageio import export_bioimageio

    bundle = import_checkpoint(checkpoint, tmp_path / "mt", optics=parse_optics(OPTICS))
    package = export_bioimageio(bundle, tmp_path / "mt.zip", authors=["A. Maker"])
    summary = spec.load_description_and_validate_format_only(package)
    assert summary.status == "valid-format"
    _, found, expected = output_of(package, tmp_path / "unpacked")
    assert np.abs(found - expected).max() < 1e-4
    assert spec.load_description(package).license == "MIT"
    assert "Copyright (c) 2024" in (tmp_path / "unpacked" / "README.md").read_text()


def test_exports_that_cannot_be_are_refused(package: Path, tmp_path: Path) -> None:
    from tisr_scope.bundles.bioimageio import export_bioimageio

    before = package.read_bytes()
    with pytest.raises(BundleError, match=r"new \.zip"):
        export_bioimageio(load_bundle("microtubules_small"), package, authors=["A"])
    assert package.read_bytes() == before
    torch.manual_seed(0)
    bundle = save_bundle(
        tmp_path / "own", DpaTisr(small()), normalisation=Normalisation(), licence="my own"
    )
    with pytest.raises(BundleError, match=r"no room for this model: license"):
        export_bioimageio(bundle, tmp_path / "own.zip", authors=["A"])
    assert not (tmp_path / "own.zip").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["own"]


# ---------------------------------------------------------------------------------------- tables


def test_the_table_of_the_readme_is_the_generated_one() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- models: .*? -->\n(.*?)<!-- end of models -->", readme, re.DOTALL)
    assert found is not None
    made = runner.invoke(app, ["models", "list", "--markdown"]).output
    assert found[1].strip() == made.strip()


def test_the_table_of_the_architectures_is_the_generated_one() -> None:
    text = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    found = re.search(
        r"<!-- architectures: .*? -->\n(.*?)<!-- end of architectures", text, re.DOTALL
    )
    assert found is not None
    made = runner.invoke(app, ["models", "architectures", "--markdown"]).output
    assert found[1].strip() == made.strip()
    shown = runner.invoke(app, ["models", "architectures"], env={"COLUMNS": "200"}).output
    assert all(name in shown for name in PRESETS)
