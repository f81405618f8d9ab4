"""The cases that ship: whole, small, attributed, and rebuilt from their CT by the stated command."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from Testing.benchmarks import make_sample_shape

from IntraopReconLib.core.calibration.fiducials import KIND_OF_SIZE, read_fiducials
from IntraopReconLib.core.calibration.poses import read_poses
from IntraopReconLib.core.config import SimulationConfig
from IntraopReconLib.core.simulate_case import simulate_case
from IntraopReconLib.core.xrays.siddon import line_integrals
from IntraopReconLib.core.xrays.simulate_beads import LARGE_RADIUS_MM, SMALL_RADIUS_MM, SteelBalls, shadows
from SparseAnatomyLib.grid import VoxelGrid

NAMES = ("lumbar", "thorax")
BEADS = "lumbar-beads"


def read_truth(case: Path) -> tuple[np.ndarray, VoxelGrid]:
    image = SimpleITK.ReadImage(str(case / "ground_truth.nrrd"))
    return SimpleITK.GetArrayFromImage(image), VoxelGrid(image.GetSize(), image.GetSpacing(), image.GetOrigin())


@pytest.mark.parametrize("name", NAMES)
def test_the_truth_explains_the_xrays(sample_case, name):
    case = sample_case / name
    posed = read_poses(case / "poses.json")
    assert len(posed) == len(list((case / "xrays").iterdir())) == 25
    volume, grid = read_truth(case)
    for image in posed[::8]:
        stored = pydicom.dcmread(case / image.image).pixel_array
        assert stored.shape == (256, 256)
        explained = line_integrals(volume, grid, image.view, 2)
        noise = np.exp(explained / 2) / np.sqrt(3e4)  # standard deviation of -log of counted photons
        residual = (-np.log(stored / image.air_intensity) - explained) / noise
        assert abs(residual.mean()) < 0.05
        assert np.sqrt((residual[explained < 1e-3] ** 2).mean()) == pytest.approx(1, abs=0.03)
        assert np.sqrt((residual**2).mean()) < 2.2  # behind bone also the edges that 1.5 mm voxels round off


@pytest.mark.parametrize("name", NAMES)
def test_the_truth_is_bone_in_its_family(sample_case, name):
    volume, grid = read_truth(sample_case / name)
    assert volume.shape == (128, 128, 128) and volume.dtype == np.float32
    np.testing.assert_allclose(grid.spacing_mm, 1.5)
    assert 0.045 < volume.max() < 0.055
    assert 0.0009 < np.median(volume[(volume > 5e-4) & (volume < 0.002)]) < 0.0012


def test_small_and_attributed(sample_case):
    files = [path for path in sample_case.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 15e6
    assert "Apache-2.0" in (sample_case / "ATTRIBUTION.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", ["SampleCase", "SampleShapes"])
def test_checksums_cover_every_file(repository, folder):
    root = repository / "Resources" / folder
    lines = (root / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    assert sums.keys() == files.keys() - {"ATTRIBUTION.md", "SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == digest, name


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, BEADS])
def test_rebuilt_by_the_stated_command(sample_case, shared_data, tmp_path, name):
    text = (sample_case / "ATTRIBUTION.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("intraop-recon simulate")]
    words = next(words for words in map(shlex.split, lines) if f"Resources/SampleCase/{name}" in words)
    seed = int(words[words.index("--seed") + 1])
    center = tuple(float(word) for word in words[words.index("--center") + 1 :][:3])
    config = SimulationConfig(seed=seed, center_lps_mm=center, beads="--beads" in words)
    few_pixels = dataclasses.replace(config, size_px=32)  # the poses, the beads and the truth do not depend on them
    simulate_case(shared_data / "ct" / Path(words[2]).name, tmp_path / "case", few_pixels)
    poses = "ground_truth_poses.json" if name == BEADS else "poses.json"
    for built, shipped in zip(read_poses(tmp_path / "case" / poses), read_poses(sample_case / name / poses), strict=True):
        np.testing.assert_allclose(built.view.source_lps_mm, shipped.view.source_lps_mm, atol=1e-6)
        np.testing.assert_allclose(built.view.pixel_lps_mm([-0.5] * 2), shipped.view.pixel_lps_mm([-0.5] * 2), atol=1e-6)
    if name == BEADS:
        built, shipped = (read_fiducials(folder / "fiducials.mrk.json") for folder in (tmp_path / "case", sample_case / name))
        np.testing.assert_allclose(built.position_lps_mm, shipped.position_lps_mm, atol=1e-6)
        assert built.labels == shipped.labels
    truth = sample_case / ("lumbar" if name == BEADS else name)
    np.testing.assert_allclose(read_truth(tmp_path / "case")[0], read_truth(truth)[0], atol=2e-6)


def test_the_beads_are_where_the_file_says_before_the_same_spine(sample_case):
    jig, posed = read_fiducials(sample_case / BEADS / "fiducials.mrk.json"), read_poses(sample_case / BEADS / "ground_truth_poses.json")
    assert not (sample_case / BEADS / "poses.json").exists()  # they are to be found
    assert len(posed) == len(list((sample_case / BEADS / "xrays").iterdir())) == 25
    balls = SteelBalls(jig.position_lps_mm, np.where(jig.kind == KIND_OF_SIZE["large"], LARGE_RADIUS_MM, SMALL_RADIUS_MM))
    for image in posed[::8]:
        beads, spine = (pydicom.dcmread(sample_case / name / image.image).pixel_array.astype(float) for name in (BEADS, "lumbar"))
        steel = shadows(balls, image.view)
        residual = np.log(spine / np.maximum(beads, 1)) - steel
        noise = np.sqrt(2 / 3e4 * image.air_intensity / np.maximum(beads, 1))
        assert steel.max() > 3
        assert np.abs(residual[steel > 0.1] / noise[steel > 0.1]).mean() < 1.1
        assert np.abs(residual[steel == 0] / noise[steel == 0]).max() < 7


def test_the_sample_shape_is_every_twelfth_sagittal_slice_of_the_whole(repository):
    folder = repository / "Resources" / "SampleShapes"
    slices, whole = (SimpleITK.ReadImage(str(folder / name)) for name in ("vertebra_slices.nrrd", "Truth/vertebra_whole.nrrd"))
    outlined, truth = SimpleITK.GetArrayFromImage(slices), SimpleITK.GetArrayFromImage(whole)
    shown = np.flatnonzero(outlined.any((0, 1)))
    assert (np.diff(shown) == 12).all() and len(shown) == 7
    np.testing.assert_array_equal(outlined[..., shown], truth[..., shown])
    assert slices.GetOrigin() == whole.GetOrigin() and slices.GetSpacing() == whole.GetSpacing() == (1.0, 1.0, 1.0)


def test_the_sample_shape_is_rebuilt_by_the_stated_command(repository, shared_data, tmp_path, monkeypatch):
    stated = (repository / "Resources" / "SampleShapes" / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert f"python -m {make_sample_shape.__name__} DATA" in stated
    monkeypatch.setattr(make_sample_shape, "SAMPLE", tmp_path)
    make_sample_shape.main(shared_data)
    for name in ("vertebra_slices.nrrd", "Truth/vertebra_whole.nrrd"):
        built, shipped = (SimpleITK.ReadImage(str(folder / name)) for folder in (tmp_path, repository / "Resources" / "SampleShapes"))
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(built), SimpleITK.GetArrayFromImage(shipped))
        np.testing.assert_allclose(built.GetOrigin(), shipped.GetOrigin(), atol=1e-6)
