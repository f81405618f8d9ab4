"""Realistic X-rays of a CT: the case folder, the bone alone beside it, and what a reader gets back."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pydicom
import pytest
import SimpleITK
from test_simulate import CENTER, make_ct

from IntraopReconLib.core import simulate_realistic as module
from IntraopReconLib.core.calibration.poses import read_poses
from IntraopReconLib.core.config import SimulationConfig
from IntraopReconLib.core.simulate_case import simulate_case
from IntraopReconLib.core.simulate_realistic import Anatomy, write_realistic_xrays
from IntraopReconLib.core.simulation_config import ExposureRanges, InstrumentRanges, LookRanges, RealisticRanges
from IntraopReconLib.core.xrays.dicom import read_radiographs
from IntraopReconLib.core.xrays.exposure import Exposure
from IntraopReconLib.core.xrays.looks import Leaf, Look, aperture
from IntraopReconLib.core.xrays.materials import material_integrals, material_volumes
from IntraopReconLib.core.xrays.radiograph import attenuation
from IntraopReconLib.core.xrays.scene import Scene, bone_truth, draw_scene, take_xray
from IntraopReconLib.core.xrays.siddon import line_integrals
from IntraopReconLib.core.xrays.simulate import WATER_PER_MM, bounds_lps_mm, carm_view, random_poses
from IntraopReconLib.core.xrays.simulate_beads import SteelBalls
from IntraopReconLib.core.xrays.solids import ball, nothing, solid_integrals
from IntraopReconLib.core.xrays.spectrum import transmission, tube_spectrum
from SparseAnatomyLib.errors import Cancelled, InputError, ResourceError
from SparseAnatomyLib.grid import VoxelGrid

SMALL = SimulationConfig(views=2, size_px=64, detector_mm=200.0, radius_mm=30.0, realistic=True, center_lps_mm=tuple(CENTER))
PLAIN = LookRanges(intensifier=0.0, curves=("linear",), window_share=(1.5, 1.5), monochrome1=0.0, text=0.0, leaves_tagged=0.0)
QUIET = Exposure(70.0, 0.1, 1e7, 0.0, 30.0, 0.0, 0.0, 0.0, 0.0)
FRONT = random_poses(dataclasses.replace(SMALL, views=1, orbit="circular"), CENTER, np.random.default_rng(0))[0]


@pytest.fixture(scope="module")
def ct_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("ct") / "ct.nrrd"
    SimpleITK.WriteImage(make_ct(), str(path))
    return path


@pytest.fixture(scope="module")
def case(ct_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases") / "case"
    simulate_case(ct_path, folder, SMALL)
    return folder


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Return the water and bone of the CT before a flat panel, without scatter and noise."""
    drawn = draw_scene(make_ct(), CENTER, None, False, RealisticRanges(looks=PLAIN, table=0.0), np.random.default_rng(0))
    return dataclasses.replace(drawn, exposure=QUIET)


def read_nrrd(path) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def measured(case, posed) -> tuple[np.ndarray, np.ndarray]:
    """Return attenuation and mask as a reader finds them."""
    (radiograph,) = read_radiographs(case / posed.image)
    image = attenuation(radiograph, posed.air_intensity)
    return image.attenuation, image.mask


# ---- the case folder


def test_case_holds_xrays_poses_truth_and_the_bone_alone(case):
    assert sorted(path.relative_to(case).as_posix() for path in case.rglob("*") if path.is_file()) == [
        "ground_truth.nrrd", "ideal/view_000.nrrd", "ideal/view_001.nrrd", "poses.json", "xrays/view_000.dcm", "xrays/view_001.dcm",
    ]  # fmt: skip
    for posed in read_poses(case / "poses.json"):
        assert posed.air_intensity is not None and posed.size_px == (64, 64)
        dataset = pydicom.dcmread(case / posed.image)
        assert list(dataset.ImageType[:2]) == ["ORIGINAL", "PRIMARY"] and "DRR" not in str(dataset)
        assert 60 <= dataset.KVP <= 110 and dataset.ExposureTime >= 1


def test_poses_are_those_of_plain_xrays_of_the_same_seed(ct_path, case, tmp_path):
    simulate_case(ct_path, tmp_path / "plain", dataclasses.replace(SMALL, realistic=False))
    for plain, realistic in zip(read_poses(tmp_path / "plain" / "poses.json"), read_poses(case / "poses.json"), strict=True):
        np.testing.assert_array_equal(plain.view.source_lps_mm, realistic.view.source_lps_mm)
        np.testing.assert_array_equal(plain.view.detector_origin_lps_mm, realistic.view.detector_origin_lps_mm)
    dataset = pydicom.dcmread(tmp_path / "plain" / "xrays" / "view_000.dcm")
    assert dataset.ImageType[0] == "DERIVED" and dataset.ImageComments == "SparseAnatomy DRR"


def test_same_seed_same_case(ct_path, case, tmp_path):
    simulate_case(ct_path, tmp_path / "again", SMALL)
    simulate_case(ct_path, tmp_path / "other", dataclasses.replace(SMALL, seed=1))
    for path in case.rglob("*.*"):
        name = path.relative_to(case)
        assert (tmp_path / "again" / name).read_bytes() == path.read_bytes(), name
    assert (tmp_path / "other" / "xrays" / "view_000.dcm").read_bytes() != (case / "xrays" / "view_000.dcm").read_bytes()


def test_truth_is_bone_without_soft_tissue(case):
    truth = SimpleITK.ReadImage(str(case / "ground_truth.nrrd"))
    values = SimpleITK.GetArrayFromImage(truth)
    grid = VoxelGrid(truth.GetSize(), truth.GetSpacing(), truth.GetOrigin())
    radius = np.linalg.norm(grid.points_lps_mm() - CENTER - [12, 4, 8], axis=-1)
    assert values[radius < 6].min() > 0.035  # 1000 HU
    assert np.median(values[radius > 12]) == 0 and (values >= 0).all()


def test_the_bone_alone_is_the_projection_of_the_truth(case):
    truth = SimpleITK.ReadImage(str(case / "ground_truth.nrrd"))
    grid = VoxelGrid(truth.GetSize(), truth.GetSpacing(), truth.GetOrigin())
    volume = SimpleITK.GetArrayFromImage(truth)
    for number, posed in enumerate(read_poses(case / "poses.json")):
        ideal = read_nrrd(case / "ideal" / f"view_{number:03d}.nrrd")
        difference = ideal - line_integrals(volume, grid, posed.view, 2)
        assert ideal.max() > 0.4 and ideal.dtype == np.float32
        assert np.sqrt((difference**2).mean()) < 0.02  # coarser voxels


# ---- what is measured


def test_attenuation_is_read_back_within_the_noise(scene):
    stored, ideal = take_xray(scene, FRONT, "", np.random.default_rng(0))
    integrals = material_integrals(scene.patient, FRONT, 2)
    image = -np.log(stored.pixels / stored.air_value)
    expected = -np.log(transmission(integrals, tube_spectrum(QUIET.kilovolts, QUIET.copper_mm)))
    assert np.abs(image - expected).max() < 5e-3 and expected.max() > 2
    water = (integrals[1] < 1e-3) & (integrals[0] > 1)  # splines ring a little beside bone
    assert water.sum() > 500
    assert 1.1 < (image[water] / integrals[0][water]).mean() < 1.3  # 70 kV: a mean energy below 60 keV
    assert image[integrals.sum(0) == 0].mean() == pytest.approx(0, abs=1e-3)
    np.testing.assert_array_equal(ideal, integrals[1] + integrals[2])


def test_noise_is_that_of_the_photons(scene):
    exposure = dataclasses.replace(QUIET, photons=900.0)
    images = []
    for seed in range(24):
        stored, _ = take_xray(dataclasses.replace(scene, exposure=exposure), FRONT, "", np.random.default_rng(seed))
        images.append(np.log(stored.pixels / stored.air_value))
    behind = np.mean(images, 0) < np.log(0.7)
    level = np.median(np.mean(images, 0)[behind])
    at_level = behind & (np.abs(np.mean(images, 0) - level) < 0.1)
    assert np.std(images, 0, ddof=1)[at_level].mean() == pytest.approx(1 / 30, rel=0.1)


def test_the_collimator_closes_the_beam_and_photons_are_counted_beside_it(scene):
    """The median that automatic exposure holds is that of the open field, however much of it is closed."""
    exposure = dataclasses.replace(QUIET, photons=400.0)
    closed = dataclasses.replace(scene.look, leaves=(Leaf(0.0, 0.1, 0.5), Leaf(np.pi / 2, 0.1, 0.5)))
    ranges = dataclasses.replace(PLAIN, window_share=(0.45, 0.45), window_penumbra_mm=(0.3, 0.3))
    dark, spread = [], []
    for looks in (PLAIN, ranges):
        images = []
        for seed in range(12):
            stored, _ = take_xray(
                dataclasses.replace(scene, exposure=exposure, looks=looks, look=closed), FRONT, "", np.random.default_rng(seed)
            )
            images.append(stored.pixels / stored.air_value)
        middle = np.stack(images)[:, 24:40, 24:40]
        spread.append((middle.std(0) / middle.mean(0)).mean())
        dark.append(np.mean(images, 0)[:4].mean())
    assert spread[0] == pytest.approx(spread[1], rel=0.25)
    assert dark[1] < 1e-3 < dark[0]


def test_metal_darkens_and_beads_are_not_in_the_bone_alone(scene):
    balls = SteelBalls(CENTER[None] + [[-10.0, 0, 14.0]], [3.0])
    metal = ball(CENTER + [15.0, 0, -12.0], 4.0, 0.345)
    plain, bone = take_xray(scene, FRONT, "", np.random.default_rng(0))
    stored, ideal = take_xray(dataclasses.replace(scene, balls=balls, instruments=metal), FRONT, "", np.random.default_rng(0))
    darker = np.log(plain.pixels / np.maximum(stored.pixels, 1.0))
    for center in (balls.center_lps_mm[0], metal.center_lps_mm[0]):
        column, row = FRONT.project(center).round().astype(int)
        assert darker[row, column] > 1.0
    np.testing.assert_allclose(ideal - bone, solid_integrals(metal, FRONT), atol=1e-5)
    assert (ideal >= bone).all()  # metal is never negative


def test_the_table_is_soft_and_behind_the_back():
    on_table = RealisticRanges(looks=PLAIN, table=1.0)
    lying, floating = (
        draw_scene(make_ct(), CENTER, None, False, ranges, np.random.default_rng(2))
        for ranges in (on_table, dataclasses.replace(on_table, table=0.0))
    )
    assert len(floating.table) == 0
    top = lying.table.center_lps_mm[:, 1].min()
    assert 35 < top - CENTER[1] < 35 + 9  # the water ends 35 mm behind the center
    shadow = solid_integrals(lying.table, FRONT)
    assert 0.05 < shadow[32, 32] < 0.4
    _, ideal = take_xray(dataclasses.replace(lying, exposure=QUIET), FRONT, "", np.random.default_rng(0))
    _, without = take_xray(dataclasses.replace(floating, exposure=QUIET), FRONT, "", np.random.default_rng(0))
    np.testing.assert_array_equal(ideal, without)


def test_the_table_of_the_ct_is_taken_away():
    ct = make_ct()
    hu = SimpleITK.GetArrayFromImage(ct)
    hu[:, -2:, 5:-5] = -100  # a plank behind the water
    with_plank = SimpleITK.GetImageFromArray(hu)
    with_plank.CopyInformation(ct)
    volumes = material_volumes(with_plank, 1.0)
    assert volumes.per_mm[0][:, -3].max() > 0.8 * WATER_PER_MM
    patient = draw_scene(with_plank, CENTER, None, False, RealisticRanges(), np.random.default_rng(0)).patient
    clean = draw_scene(ct, CENTER, None, False, RealisticRanges(), np.random.default_rng(0)).patient
    np.testing.assert_allclose(patient.per_mm, clean.per_mm, atol=2e-3)
    assert patient.per_mm[1].max() > 0.04


def test_the_patient_goes_on_beyond_the_ends_of_the_ct(scene):
    volumes = material_volumes(make_ct(), 1.0)
    more = (scene.patient.per_mm.shape[1] - volumes.per_mm.shape[1]) // 2
    assert more >= 90
    np.testing.assert_allclose(scene.patient.grid.center_lps_mm, volumes.grid.center_lps_mm, atol=1e-6)
    np.testing.assert_array_equal(scene.patient.per_mm[:, more - 5], scene.patient.per_mm[:, more + 5])


def test_metal_does_not_go_on_beyond_the_ends_of_the_ct():
    ct = make_ct()
    hu = SimpleITK.GetArrayFromImage(ct)
    hu[:10] = hu[10]  # the water reaches the end of the CT
    hu[:8, 18:22, 23:27] = 3000  # and so does a rod in it
    with_rod = SimpleITK.GetImageFromArray(hu)
    with_rod.CopyInformation(ct)
    patient = draw_scene(with_rod, CENTER, None, False, RealisticRanges(), np.random.default_rng(0)).patient
    slices = np.flatnonzero(patient.per_mm[2].any((1, 2)))
    more = (patient.per_mm.shape[1] - material_volumes(ct, 1.0).per_mm.shape[1]) // 2
    assert more <= slices.min() < more + 3 and slices.max() < more + 30


def test_borders_of_voxels_do_not_show(scene):
    fine = carm_view(dataclasses.replace(SMALL, size_px=256, detector_mm=60.0), CENTER, 0.3, 0.0, 0.1, 620.0)
    _, ideal = take_xray(scene, fine, "", np.random.default_rng(0))
    sharp = material_integrals(scene.patient, fine, 1)[1]
    assert np.abs(np.diff(ideal, 2)).max() < 0.5 * np.abs(np.diff(sharp, 2)).max()
    assert ideal.sum() == pytest.approx(sharp.sum(), rel=1e-2)


def test_instruments_are_in_truth_and_bone_alone(tmp_path, monkeypatch):
    steel = ball(CENTER + [-5.0, 3.0, -10.0], 5.0, 0.94)
    drawn = draw_scene(make_ct(), CENTER, None, False, RealisticRanges(looks=PLAIN), np.random.default_rng(0))
    monkeypatch.setattr(module, "draw_scene", lambda *args: dataclasses.replace(drawn, instruments=steel))
    grid = VoxelGrid.box(CENTER, 60, 1.0)
    (tmp_path / "xrays").mkdir()
    anatomy = Anatomy(make_ct(), CENTER, grid, None)
    truth = write_realistic_xrays(tmp_path, anatomy, [FRONT], SMALL)
    inside = np.linalg.norm(grid.points_lps_mm() - steel.center_lps_mm[0], axis=-1) < 4.5
    assert truth[inside].min() > 0.93
    column, row = FRONT.project(steel.center_lps_mm[0]).round().astype(int)
    assert read_nrrd(tmp_path / "ideal" / "view_000.nrrd")[row, column] > 8


def test_beads_and_instruments_combine(ct_path, tmp_path):
    config = dataclasses.replace(SMALL, views=1, beads=True, instruments=True)
    simulate_case(ct_path, tmp_path / "case", config)
    names = {path.name for path in (tmp_path / "case").iterdir()}
    assert names >= {"fiducials.mrk.json", "ground_truth_poses.json", "poses.json", "ideal"}
    markups = json.loads((tmp_path / "case" / "fiducials.mrk.json").read_text(encoding="utf-8"))
    assert len(markups["markups"][0]["controlPoints"]) == 16


def test_views_differ_in_collimator_and_noise_only(scene):
    first, again, other = (take_xray(scene, FRONT, "", np.random.default_rng(seed))[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert (first.pixels != other.pixels).any() and first.air_value == other.air_value


# ---- what is refused


def test_settings_in_sentences(ct_path, tmp_path):
    for changes, message in (({"realistic": False, "instruments": True}, "instruments must be left out"), ({"size_px": 8}, "size must be")):
        with pytest.raises(InputError, match=message):
            simulate_case(ct_path, tmp_path / "case", dataclasses.replace(SMALL, **changes))
    assert not any(tmp_path.iterdir())


def test_a_ct_too_large_for_the_memory():
    ct = make_ct(spacing=(14.0, 14.0, 14.0))
    with pytest.raises(ResourceError, match="too large for realistic X-rays"):
        draw_scene(ct, CENTER, None, False, RealisticRanges(), np.random.default_rng(0))


def test_cancel_leaves_nothing(ct_path, tmp_path):
    def report(fraction, message, preview=None):
        if "X-ray 2" in message:
            raise Cancelled

    with pytest.raises(Cancelled):
        simulate_case(ct_path, tmp_path / "case", SMALL, report)
    assert not any(tmp_path.iterdir())


def test_ranges_are_ranges():
    for ranges in (ExposureRanges(), InstrumentRanges(), LookRanges()):
        for field in dataclasses.fields(ranges):
            value = getattr(ranges, field.name)
            if isinstance(value, tuple) and len(value) == 2 and not isinstance(value[0], str):
                assert value[0] <= value[1], field.name
            elif isinstance(value, float) and not field.name.endswith("_mm"):
                assert 0 <= value <= 1, field.name
    assert len(nothing()) == 0 and aperture(Look(intensifier=False), (4, 3), 1.0).all()


def test_the_table_of_the_ct_is_no_bone_to_be_found():
    ct = make_ct()
    low, high = bounds_lps_mm(ct)
    grid, truths = VoxelGrid.box((low + high) / 2, high - low, 1.5), []
    for edge_hu in (-1000, 600):  # of a table behind the water
        hu = SimpleITK.GetArrayFromImage(ct)
        hu[:, -2:, 5:-5] = edge_hu
        image = SimpleITK.GetImageFromArray(hu)
        image.CopyInformation(ct)
        scene = draw_scene(image, CENTER, None, False, RealisticRanges(), np.random.default_rng(0))
        truths.append(bone_truth(image, grid, scene))
    np.testing.assert_allclose(truths[1], truths[0], atol=1e-3)
    assert truths[0].max() > 0.04
