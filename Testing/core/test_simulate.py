"""X-rays from CT: the physics, the poses, the case folder, and every wrong input."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pydicom
import pytest
import SimpleITK

from IntraopReconLib.core import simulate_case as module
from IntraopReconLib.core.calibration.poses import read_poses
from IntraopReconLib.core.config import SimulationConfig
from IntraopReconLib.core.simulate_case import simulate_case
from IntraopReconLib.core.xrays.siddon import line_integrals
from IntraopReconLib.core.xrays.simulate import (
    AIR_INTENSITY,
    add_noise,
    attenuation_from_hounsfield,
    attenuation_volume,
    bone_centroid_lps_mm,
    random_poses,
    read_ct,
    simulate_views,
)
from SparseAnatomyLib.errors import Cancelled, InputError, ResourceError
from SparseAnatomyLib.grid import VoxelGrid

CENTER = np.array([20.0, -130.0, 400.0])
SMALL = SimulationConfig(views=3, size_px=32, radius_mm=30.0)


def make_ct(direction=None, spacing=(2.0, 2.5, 3.0)) -> SimpleITK.Image:
    """Return a CT of air, a box of water and in it an off-center bone ball of radius 9 mm and a smaller one, at CENTER."""
    direction = np.eye(3) if direction is None else np.asarray(direction, float)
    size = (50, 40, 36)
    origin = CENTER - direction @ (np.array(spacing) * (np.array(size) - 1) / 2)
    grid = VoxelGrid(size, spacing, origin, direction)
    points = grid.points_lps_mm() - CENTER
    hu = np.where(np.abs(points).max(-1) < 35, 0, -1000).astype(np.int16)
    hu[np.linalg.norm(points - [12, 4, 8], axis=-1) < 9] = 1000
    hu[np.linalg.norm(points - [-14, -6, 0], axis=-1) < 6] = 350
    image = SimpleITK.GetImageFromArray(hu)
    image.SetSpacing(spacing)
    image.SetOrigin(origin.tolist())
    image.SetDirection(direction.ravel().tolist())
    return image


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


# ---- attenuation


def test_attenuation_of_tissues():
    air, fat, water, muscle, trabecular, cortical = attenuation_from_hounsfield([-1000, -100, 0, 50, 300, 1300])
    assert air == 0
    assert 0.0008 < fat < water < muscle < 0.0012  # suppressed to some 5 %
    assert trabecular == pytest.approx(0.0206 * 1.3, rel=1e-5)  # bone is kept
    assert cortical == pytest.approx(0.0474, abs=1e-4)


def test_attenuation_grows_smoothly_with_hounsfield_units():
    mu = attenuation_from_hounsfield(np.arange(-1500, 4000, dtype=np.float32))
    assert (np.diff(mu) >= 0).all()
    assert np.diff(mu).max() < 3e-4
    assert mu.dtype == np.float32
    assert mu[0] == 0 and mu[-1] == attenuation_from_hounsfield(3071)


@pytest.mark.parametrize(
    "direction", [np.eye(3), np.diag([-1, -1, 1]), [[0, 0, 1], [1, 0, 0], [0, 1, 0]], [[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]]
)
def test_volume_stands_in_the_patient_whatever_the_direction_of_the_ct(direction):
    volume, grid = attenuation_volume(make_ct(direction), CENTER, 30.0)
    np.testing.assert_array_equal(grid.direction, np.eye(3))
    assert grid.spacing_mm.max() <= 0.75
    np.testing.assert_allclose(grid.center_lps_mm, CENTER, atol=1e-6)
    bone = volume > 0.03
    np.testing.assert_allclose(grid.points_lps_mm()[bone].mean(0) - CENTER, [12, 4, 8], atol=0.6)
    assert bone.sum() * grid.voxel_volume_mm3 == pytest.approx(4 / 3 * math.pi * 9**3, rel=0.2)


def test_region_fades_out_and_whole_anatomy_does_not():
    ct = make_ct()
    volume, grid = attenuation_volume(ct, CENTER, 30.0)
    radius = np.linalg.norm(grid.points_lps_mm() - CENTER, axis=-1)
    assert volume[radius > 30].max() == 0
    assert volume[(radius < 20)].min() > 7e-4  # splines ring a little beside bone
    whole, whole_grid = attenuation_volume(ct, CENTER, None)
    assert (whole_grid.extent_mm >= np.array(ct.GetSize()) * ct.GetSpacing() - 1e-6).all()
    assert whole[0].max() < 1e-5 and whole.max() == pytest.approx(attenuation_from_hounsfield(1000), rel=0.2)


def test_bone_centroid():
    at_12, at_14 = 9**3, 6**3  # volumes of the two balls
    expected = (at_12 * np.array([12, 4, 8]) + at_14 * np.array([-14, -6, 0])) / (at_12 + at_14)
    for direction in (np.eye(3), np.diag([-1, -1, 1]), [[0, 0, 1], [1, 0, 0], [0, 1, 0]]):
        np.testing.assert_allclose(bone_centroid_lps_mm(make_ct(direction)) - CENTER, expected, atol=1.0)


# ---- poses


def test_arbitrary_poses_stay_within_their_ranges():
    config = SimulationConfig(views=200)
    views = random_poses(config, CENTER, np.random.default_rng(1))
    assert len(views) == 200
    for view in views:
        assert not view.is_mirrored
        assert view.source_to_detector_mm == pytest.approx(1020)
        np.testing.assert_allclose(view.pixel_pitch_mm, 1.4)
        np.testing.assert_allclose(view.principal_point_px, [127.5, 127.5], atol=1e-6)
        assert -view.row_step_lps_mm[2] / 1.4 > math.cos(math.radians(30)) * math.cos(math.radians(20)) - 0.01  # head up
        assert np.abs(view.project(CENTER) - 127.5).max() < 2 * math.sqrt(3) * 3 / 1.4
    towards = np.stack([view.source_lps_mm for view in views]) - CENTER
    distance = np.linalg.norm(towards, axis=1)
    assert 554 < distance.min() < 570 and 670 < distance.max() < 686
    orbit = np.degrees(np.arctan2(towards[:, 0], -towards[:, 1]))
    assert -101 < orbit.min() < -95 and 95 < orbit.max() < 101 and (np.diff(orbit) > -1.5).all()
    tilt = np.degrees(np.arcsin(towards[:, 2] / distance))
    assert -31 < tilt.min() < -25 and 25 < tilt.max() < 31
    roll = [
        math.degrees(math.asin(v.column_step_lps_mm @ [0, 0, -1] / 1.4 / math.cos(math.radians(t))))
        for v, t in zip(views, tilt, strict=True)
    ]
    assert -21 < min(roll) < -15 and 15 < max(roll) < 21


def test_every_view_sees_the_whole_region():
    for seed in range(20):
        for view in random_poses(SimulationConfig(), CENTER, np.random.default_rng(seed)):
            cone = min(view.size_px) / 2 * 1.4 / math.hypot(1020, min(view.size_px) / 2 * 1.4)  # sine of the half angle
            forward = view.lps_from_camera[:3, 2]
            offset = np.linalg.norm(np.cross(CENTER - view.source_lps_mm, forward))
            reach = np.linalg.norm(CENTER - view.source_lps_mm) * cone - offset
            assert reach > 92 - 2  # within the last millimeters of the fade-out


def test_circular_orbit():
    views = random_poses(SimulationConfig(views=21, orbit="circular"), CENTER, np.random.default_rng(0))
    towards = np.stack([view.source_lps_mm for view in views]) - CENTER
    np.testing.assert_allclose(np.linalg.norm(towards, axis=1), 620)
    np.testing.assert_allclose(towards[:, 2], 0, atol=1e-9)
    orbit = np.degrees(np.arctan2(towards[:, 0], -towards[:, 1]))
    np.testing.assert_allclose(np.diff(orbit), 200 / 21)
    assert orbit[10] == pytest.approx(0)  # the middle of the arc is in front of the patient
    assert {tuple(np.round(view.row_step_lps_mm / 1.4, 9)) for view in views} == {(0.0, 0.0, -1.0)}


def test_patient_is_seen_as_from_the_source():
    front = random_poses(SimulationConfig(views=1, orbit="circular"), CENTER, np.random.default_rng(0))[0]
    middle = front.project(CENTER)
    left, up = front.project(CENTER + np.array([10, 0, 0])), front.project(CENTER + np.array([0, 0, 10]))
    assert left[0] > middle[0] + 5 and abs(left[1] - middle[1]) < 1e-6
    assert up[1] < middle[1] - 5 and abs(up[0] - middle[0]) < 1e-6


def test_size_keeps_the_detector():
    for size in (64, 256, 500):
        view = random_poses(SimulationConfig(views=1, size_px=size), CENTER, np.random.default_rng(2))[0]
        reference = random_poses(SimulationConfig(views=1), CENTER, np.random.default_rng(2))[0]
        np.testing.assert_allclose(view.pixel_lps_mm([-0.5, -0.5]), reference.pixel_lps_mm([-0.5, -0.5]))
        np.testing.assert_allclose(view.pixel_lps_mm([size - 0.5] * 2), reference.pixel_lps_mm([255.5] * 2))


# ---- projection and noise


def test_views_are_the_exact_projections():
    grid = VoxelGrid.box(CENTER, 60, 3.0)
    volume = np.random.default_rng(0).uniform(0, 0.03, grid.shape_kji)
    views = random_poses(SMALL, CENTER, np.random.default_rng(0))
    steps = []
    images = simulate_views(volume, grid, views, lambda fraction, message: steps.append((fraction, message)))
    assert images.shape == (3, 32, 32) and images.dtype == np.float32
    np.testing.assert_array_equal(images[1], line_integrals(volume, grid, views[1], 2))
    assert [message for _, message in steps] == [f"Simulating X-ray {n} of 3" for n in (1, 2, 3)]


@pytest.mark.parametrize("attenuation", [0.0, 1.0, 4.0])
def test_noise_is_that_of_counted_photons(attenuation):
    photons = 3e4
    stored = add_noise(np.full((400, 400), attenuation), photons, np.random.default_rng(0)).astype(float)
    counts = stored / AIR_INTENSITY * photons
    expected = photons * math.exp(-attenuation)
    assert counts.mean() == pytest.approx(expected, abs=5 * math.sqrt(expected) / 400)
    assert counts.var() == pytest.approx(expected, rel=5 * math.sqrt(2) / 400)


def test_no_noise_is_beer_lambert_and_nothing_wraps_around():
    attenuation = np.array([0.0, 0.5, 3.0, 40.0])
    stored = add_noise(attenuation, None, np.random.default_rng(0))
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored, np.rint(60000 * np.exp(-attenuation)))
    assert add_noise(np.zeros(2000), 50, np.random.default_rng(0)).max() == 65535  # saturates


# ---- the case folder


def test_case_holds_xrays_poses_and_truth(case):
    assert sorted(path.relative_to(case).as_posix() for path in case.rglob("*")) == [
        "ground_truth.nrrd", "poses.json", "xrays", "xrays/view_000.dcm", "xrays/view_001.dcm", "xrays/view_002.dcm",
    ]  # fmt: skip
    posed = read_poses(case / "poses.json")
    assert [image.image for image in posed] == [f"xrays/view_{n:03d}.dcm" for n in range(3)]
    assert all(image.air_intensity == 60000 and image.size_px == (32, 32) for image in posed)
    truth = SimpleITK.ReadImage(str(case / "ground_truth.nrrd"))
    assert truth.GetPixelID() == SimpleITK.sitkFloat32
    assert truth.GetMetaData("quantity") == "attenuation per mm"
    np.testing.assert_allclose(truth.GetSpacing(), 1.5)
    np.testing.assert_allclose(truth.GetDirection(), np.eye(3).ravel())


def test_truth_explains_the_xrays(case):
    truth = SimpleITK.ReadImage(str(case / "ground_truth.nrrd"))
    grid = VoxelGrid(truth.GetSize(), truth.GetSpacing(), truth.GetOrigin())
    volume = SimpleITK.GetArrayFromImage(truth)
    for posed in read_poses(case / "poses.json"):
        stored = pydicom.dcmread(case / posed.image).pixel_array
        measured = -np.log(stored / posed.air_intensity)
        difference = measured - line_integrals(volume, grid, posed.view, 2)
        assert measured.max() > 0.4
        assert np.sqrt((difference**2).mean()) < 0.012  # photon noise (0.006) and the coarser voxels


def test_truth_is_the_mean_of_the_projected_voxels(ct_path, case):
    volume, grid = attenuation_volume(read_ct(ct_path), bone_centroid_lps_mm(read_ct(ct_path)), SMALL.radius_mm)
    truth = SimpleITK.ReadImage(str(case / "ground_truth.nrrd"))
    values = SimpleITK.GetArrayFromImage(truth)
    assert values.shape == tuple(n // 2 for n in volume.shape)
    np.testing.assert_allclose(values[10, 20, 15], volume[20:22, 40:42, 30:32].mean(), atol=1e-6)
    np.testing.assert_allclose(truth.GetOrigin(), grid.points_lps_mm()[:2, :2, :2].reshape(-1, 3).mean(0), atol=1e-9)


def test_same_seed_same_case(ct_path, case, tmp_path):
    simulate_case(ct_path, tmp_path / "again", SMALL)
    simulate_case(ct_path, tmp_path / "other", dataclasses.replace(SMALL, seed=1))
    for path in case.rglob("*.*"):
        name = path.relative_to(case)
        assert (tmp_path / "again" / name).read_bytes() == path.read_bytes(), name
    assert (tmp_path / "other" / "poses.json").read_bytes() != (case / "poses.json").read_bytes()


def test_center_is_where_the_truth_is(ct_path, tmp_path):
    center = (10.0, -125.0, 395.0)
    simulate_case(ct_path, tmp_path / "case", dataclasses.replace(SMALL, center_lps_mm=center, photons_per_pixel=None))
    truth = SimpleITK.ReadImage(str(tmp_path / "case" / "ground_truth.nrrd"))
    np.testing.assert_allclose(truth.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in truth.GetSize()]), center)


def test_an_empty_folder_may_be_there(ct_path, tmp_path):
    simulate_case(ct_path, tmp_path, dataclasses.replace(SMALL, views=1))
    assert (tmp_path / "poses.json").is_file()


# ---- wrong inputs


def write_image(path, array, **changes):
    image = SimpleITK.GetImageFromArray(array, **changes)
    SimpleITK.WriteImage(image, str(path))


def hounsfield(shape=(8, 9, 10)):
    return np.linspace(-1000, 1500, math.prod(shape), dtype=np.float32).reshape(shape)


def with_nan():
    array = hounsfield()
    array[3, 4, 5] = np.nan
    return array


@pytest.mark.parametrize(
    ("array", "changes", "message"),
    [
        (hounsfield((8, 9)), {}, "is not a 3D volume"),
        (hounsfield((1, 8, 9)), {}, "is not a 3D volume"),
        (hounsfield((3, 8, 9, 10)), {"isVector": False}, "is not a 3D volume"),
        (hounsfield((8, 9, 10, 3)), {"isVector": True}, "is not a 3D volume of single numbers"),
        (with_nan(), {}, "NaN"),
        (hounsfield() / 1e5, {}, "look like attenuation per mm"),
        (np.abs(hounsfield()), {}, "no Hounsfield units"),
        (np.arange(720, dtype=np.uint8).reshape(8, 9, 10) % 7, {}, "no Hounsfield units"),
    ],
)  # fmt: skip
def test_volumes_that_are_no_ct(tmp_path, array, changes, message):
    path = tmp_path / "input.nrrd"
    write_image(path, array, **changes)
    with pytest.raises(InputError, match=message) as caught:
        read_ct(path)
    assert str(path) in caught.value.message and caught.value.remedy


def test_files_that_are_no_volume(tmp_path):
    text = tmp_path / "text.nrrd"
    text.write_text("not a volume")
    truncated = tmp_path / "truncated.nrrd"
    write_image(truncated, hounsfield())
    truncated.write_bytes(truncated.read_bytes()[:-200])
    for path, message in (
        (tmp_path / "none.nrrd", "no file"),
        (tmp_path, "is a folder"),
        (text, "cannot be read"),
        (truncated, "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            read_ct(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instruments": True}, "instruments.*realistic"),
        ({"views": 0}, "views"),
        ({"size_px": 0}, "size"),
        ({"seed": -1}, "seed"),
        ({"radius_mm": 0.0}, "radius"),
        ({"radius_mm": math.nan}, "radius"),
        ({"photons_per_pixel": 0.0}, "photons"),
        ({"center_lps_mm": (math.nan, 0.0, 0.0)}, "center"),
        ({"center_lps_mm": (5000.0, 0.0, 0.0)}, "outside the CT"),
    ],
)
def test_settings_that_make_no_picture(ct_path, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        simulate_case(ct_path, tmp_path / "case", dataclasses.replace(SMALL, **changes))
    assert not any(tmp_path.iterdir())


def test_a_region_too_large_for_the_memory(ct_path, tmp_path):
    with pytest.raises(ResourceError, match="too large"):
        simulate_case(ct_path, tmp_path / "case", dataclasses.replace(SMALL, radius_mm=900.0))
    assert not any(tmp_path.iterdir())


def test_nothing_is_overwritten(ct_path, tmp_path):
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "mine.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name, message in (("case", "not empty"), ("file", "not empty"), ("file/case", "cannot be written")):
        with pytest.raises(InputError, match=message):
            simulate_case(ct_path, tmp_path / name, SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["case", "file"]
    assert [path.name for path in (tmp_path / "case").iterdir()] == ["mine.txt"]


def test_cancel_leaves_nothing(ct_path, tmp_path):
    def report(fraction, message, preview=None):
        if fraction > 0.4:
            raise Cancelled

    with pytest.raises(Cancelled):
        simulate_case(ct_path, tmp_path / "case", SMALL, report)
    assert not any(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(ct_path, tmp_path, monkeypatch):
    def write_poses(path, posed):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_poses", write_poses)
    with pytest.raises(ResourceError, match="The disk of .* is full"):
        simulate_case(ct_path, tmp_path / "case", SMALL)
    assert not any(tmp_path.iterdir())
