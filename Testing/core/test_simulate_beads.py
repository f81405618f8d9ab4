"""Steel balls in simulated X-rays: exact shadows, layouts that every view sees, and case folders that can be calibrated."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import numpy as np
import pydicom
import pytest
import SimpleITK
from scipy import ndimage
from test_simulate import CENTER, make_ct

from IntraopReconLib.core.calibration.beads import find_beads
from IntraopReconLib.core.calibration.disc_fit import fit_discs
from IntraopReconLib.core.calibration.fiducials import read_fiducials
from IntraopReconLib.core.calibration.jig_layout import jig_layout
from IntraopReconLib.core.calibration.poses import read_poses
from IntraopReconLib.core.calibration_config import BeadSettings
from IntraopReconLib.core.config import Jig, SimulationConfig
from IntraopReconLib.core.simulate_case import simulate_case
from IntraopReconLib.core.xrays import simulate_beads as module
from IntraopReconLib.core.xrays.dicom import read_radiographs
from IntraopReconLib.core.xrays.radiograph import attenuation
from IntraopReconLib.core.xrays.siddon import line_integrals
from IntraopReconLib.core.xrays.simulate import AIR_INTENSITY, add_noise, attenuation_volume, random_poses
from IntraopReconLib.core.xrays.simulate_beads import BONE_PER_MM, STEEL_PER_MM, SUBRAYS, SteelBalls, field_radius_mm, place_beads, shadows
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

JIGS = get_args(Jig)
OBLIQUE = XrayView([30.0, -600.0, 40.0], [-140.0, 410.0, 150.0], [0.8, 0.1, 0.05], [-0.05, 0.1, -0.9], (300, 260))
SMALL = SimulationConfig(views=2, size_px=128, radius_mm=30.0, beads=True, center_lps_mm=tuple(CENTER))


@pytest.fixture(scope="module")
def ct() -> SimpleITK.Image:
    return make_ct()


@pytest.fixture(scope="module")
def bone(ct) -> tuple[np.ndarray, VoxelGrid]:
    return attenuation_volume(ct, CENTER, 30.0)


def placed(jig: Jig, ct, bone, seed: int = 0) -> SteelBalls:
    return place_beads(dataclasses.replace(SMALL, jig=jig), ct, CENTER, bone, np.random.default_rng(seed))


# ---- shadows


def test_rays_cut_chords():
    center, radius = np.array([3.0, 5.0, -2.0]), 20.0  # so large that a pixel is a point
    image = shadows(SteelBalls([center], [radius]), OBLIQUE)
    direction = OBLIQUE.all_pixels_lps_mm() - OBLIQUE.source_lps_mm
    to_center = center - OBLIQUE.source_lps_mm
    along = direction @ to_center / (direction**2).sum(-1)
    beside = np.linalg.norm(along[..., None] * direction - to_center, axis=-1)
    chord = 2 * np.sqrt(np.clip(radius**2 - beside**2, 0, None))
    inner = beside < 0.9 * radius
    np.testing.assert_allclose(image[inner], STEEL_PER_MM * chord[inner], rtol=2e-3)
    assert image[beside > radius + 1].max() == 0
    assert image.max() == pytest.approx(STEEL_PER_MM * 2 * radius, rel=1e-3)


@pytest.mark.parametrize("radius", [0.3, 1.5, 3.0])
def test_no_steel_is_lost_between_pixels(radius: float):
    center = np.array([20.0, -15.0, 10.0])
    image = shadows(SteelBalls([center], [radius]), OBLIQUE)
    direction = OBLIQUE.pixel_lps_mm(OBLIQUE.project(center)) - OBLIQUE.source_lps_mm
    magnification = np.linalg.norm(direction) / np.linalg.norm(center - OBLIQUE.source_lps_mm)
    cosine = abs(direction @ OBLIQUE.detector_normal_lps) / np.linalg.norm(direction)
    area = np.linalg.norm(np.cross(OBLIQUE.column_step_lps_mm, OBLIQUE.row_step_lps_mm))
    volume = 4 / 3 * np.pi * radius**3 * magnification**2 / cosine
    assert image.sum(dtype=float) * area == pytest.approx(STEEL_PER_MM * volume, rel=0.01)


def test_a_ball_of_fine_voxels_has_the_same_shadow():
    center, radius = np.array([12.0, 4.0, -7.0]), 3.0
    grid = VoxelGrid.box(center + [0.013, -0.02, 0.007], 6.6, 0.05)
    inside = np.clip((radius - np.linalg.norm(grid.points_lps_mm() - center, axis=-1)) / 0.05 + 0.5, 0, 1)
    ball = STEEL_PER_MM * inside
    view = OBLIQUE.cropped(tuple(np.round(OBLIQUE.project(center)).astype(int) - 8), (17, 17))
    voxels = line_integrals(ball.astype(np.float32), grid, view, SUBRAYS)
    image = shadows(SteelBalls([center], [radius]), view)
    assert image.max() == pytest.approx(5.5, abs=0.2)
    assert np.abs(image - voxels)[image > 3].max() < 0.01
    assert np.sqrt(((image - voxels) ** 2).mean()) < 0.007  # where rays graze the ball, voxels round it off
    assert image.sum() == pytest.approx(voxels.sum(), rel=1e-3)


def test_the_rays_of_a_pixel_are_enough(monkeypatch):
    view = random_poses(SimulationConfig(views=1), CENTER, np.random.default_rng(0))[0]
    balls = SteelBalls(CENTER + [[3.0, 2.0, 1.0], [-40.0, 30.0, 20.0], [50.0, -60.0, 10.0]], [2.0, 2.0, 3.0])
    image = shadows(balls, view)
    monkeypatch.setattr(module, "SUBRAYS", 64)
    assert np.abs(image - shadows(balls, view)).max() < 0.02  # the noise of 30,000 photons behind a ball is 0.05


def test_shadows_add_up_and_stay_inside_the_image():
    places = np.array(
        [OBLIQUE.source_lps_mm + 0.6 * (OBLIQUE.pixel_lps_mm(px) - OBLIQUE.source_lps_mm) for px in ([0, 0], [299, 130], [-40, 9])]
    )
    each = [shadows(SteelBalls([place], [3.0]), OBLIQUE) for place in places]
    both = shadows(SteelBalls(places, [3.0] * 3), OBLIQUE)
    np.testing.assert_allclose(both, np.sum(each, axis=0), atol=1e-6)
    assert each[0][0, 0] > 4 and each[1][130, 299] > 4 and each[2].max() == 0
    assert shadows(SteelBalls(np.empty((0, 3)), []), OBLIQUE).max() == 0


@pytest.mark.parametrize("size", [256, 1024])
def test_the_middle_of_a_shadow_is_the_projected_center_within_what_can_be_measured(size: int):
    """The bias of perspective, tan θ / cos² θ · (r / d)² · SDD, at the rim of the field of view."""
    view = random_poses(SimulationConfig(views=1, size_px=size, orbit="circular"), CENTER, np.random.default_rng(0))[0]
    depth = 500.0
    center = view.source_lps_mm + depth / 1020 * (view.pixel_lps_mm([0.94 * size, 0.5 * size]) - view.source_lps_mm)
    pixel = view.project(center)
    image = shadows(SteelBalls([center], [3.0]), view)
    middle = np.array(ndimage.center_of_mass(image))[::-1]
    tangent = (pixel[0] - (size - 1) / 2) * view.pixel_pitch_mm[0] / 1020
    distance = np.linalg.norm(center - view.source_lps_mm)
    expected = tangent * (1 + tangent**2) * (3.0 / distance) ** 2 * 1020 / view.pixel_pitch_mm[0]
    assert expected < 0.02
    np.testing.assert_allclose(middle - pixel, [expected, 0], atol=0.01)
    fit = fit_discs(image, np.ones(image.shape, bool), pixel, 3.0 * 1020 / depth / view.pixel_pitch_mm[0])
    assert np.abs(fit.center_px[0] - pixel).max() < 0.05


# ---- jigs


@pytest.mark.parametrize("jig", JIGS)
def test_every_view_sees_every_bead_whole(ct, bone, jig: Jig):
    for seed in range(5):
        balls = placed(jig, ct, bone, seed)
        assert len(balls) == 16 and balls.is_large.sum() == 4
        for view in random_poses(dataclasses.replace(SMALL, views=25), CENTER, np.random.default_rng(seed)):
            radius = balls.radius_mm * 1020 / view.depth_mm(balls.center_lps_mm) / view.pixel_pitch_mm[0]
            pixel = view.project(balls.center_lps_mm)
            assert (pixel - radius[:, None] > -0.5).all() and (pixel + radius[:, None] < 127.5).all()


@pytest.mark.parametrize("jig", JIGS)
def test_beads_lie_apart_and_outside_bone(ct, bone, jig: Jig):
    volume, grid = bone
    for seed in range(5):
        balls = placed(jig, ct, bone, seed)
        distance = np.linalg.norm(balls.center_lps_mm[:, None] - balls.center_lps_mm, axis=-1)
        assert distance[np.triu_indices(16, 1)].min() > 6.0
        points = grid.points_lps_mm()[volume > BONE_PER_MM]
        assert (np.linalg.norm(points[:, None] - balls.center_lps_mm, axis=-1).min(0) > balls.radius_mm).all()


def test_jigs_are_what_they_are_called(ct, bone):
    volume, belt, patient = (jig_layout(placed(jig, ct, bone).center_lps_mm) for jig in ("volume", "belt", "patient"))
    assert volume.extent_mm.min() > 90 and volume.plane_rms_mm > 20
    assert belt.extent_mm[2] < 13 and belt.extent_mm[:2].min() > 110 and belt.plane_rms_mm < 5
    skin = placed("patient", ct, bone).center_lps_mm - CENTER
    np.testing.assert_allclose(np.abs(skin).max(1), 36, atol=5)  # on the box of water, which reaches 35 mm
    assert skin[:, 1].min() > -36 * np.sin(np.deg2rad(20)) and patient.plane_rms_mm > 5


@pytest.mark.parametrize("jig", JIGS)
def test_no_layout_looks_like_itself_from_elsewhere(ct, bone, jig: Jig):
    for seed in range(10):
        symmetry = jig_layout(placed(jig, ct, bone, seed).center_lps_mm).symmetry_rms_mm
        turns = [distance for signs, distance in symmetry.items() if np.prod(signs) > 0]  # mirror images are no view of the jig
        assert min(turns) > 5.0


def test_same_seed_same_layout(ct, bone):
    for jig in JIGS:
        np.testing.assert_array_equal(placed(jig, ct, bone, 3).center_lps_mm, placed(jig, ct, bone, 3).center_lps_mm)
        assert not np.allclose(placed(jig, ct, bone, 3).center_lps_mm, placed(jig, ct, bone, 4).center_lps_mm)


def test_where_there_is_no_room(ct):
    grid = VoxelGrid.box(CENTER, 200.0, 4.0)
    full = np.full(grid.shape_kji, 0.05, np.float32)
    with pytest.raises(InputError, match="no room"):
        placed("volume", ct, (full, grid))
    narrow = dataclasses.replace(SMALL, detector_mm=60.0)
    with pytest.raises(InputError, match="too small for beads"):
        place_beads(narrow, ct, CENTER, (full, grid), np.random.default_rng(0))


def test_the_field_is_what_the_nearest_view_sees():
    config = SimulationConfig()
    assert 90 < field_radius_mm(config) < 560 * 179.2 / 1020
    assert field_radius_mm(dataclasses.replace(config, jitter_mm=0.0)) == pytest.approx(560 * np.sin(np.arctan(179.2 / 1020)))


# ---- cases


@pytest.fixture(scope="module")
def cases(ct, tmp_path_factory) -> tuple[Path, Path]:
    """Return a case with beads and the same one without."""
    folder = tmp_path_factory.mktemp("cases")
    SimpleITK.WriteImage(ct, str(folder / "ct.nrrd"))
    for name, beads in (("beads", True), ("clean", False)):
        simulate_case(folder / "ct.nrrd", folder / name, dataclasses.replace(SMALL, beads=beads))
    return folder / "beads", folder / "clean"


def test_a_case_with_beads_says_where_they_are(cases):
    beads, clean = cases
    names = {path.relative_to(beads).as_posix() for path in beads.rglob("*")}
    assert names - {path.relative_to(clean).as_posix() for path in clean.rglob("*")} == {"fiducials.mrk.json", "ground_truth_poses.json"}
    for name in ("poses.json", "ground_truth.nrrd"):  # no beads in the truth, and the same poses
        assert (beads / name).read_bytes() == (clean / name).read_bytes()
    assert (beads / "ground_truth_poses.json").read_bytes() == (beads / "poses.json").read_bytes()
    jig = read_fiducials(beads / "fiducials.mrk.json")
    assert jig.labels[:5] == ("large-1", "large-2", "large-3", "large-4", "small-1")
    assert jig.kind.tolist() == [2] * 4 + [1] * 12


def test_the_beads_shadow_where_the_file_says(cases, tmp_path):
    ct_path, exact = cases[0].parent / "ct.nrrd", dataclasses.replace(SMALL, photons_per_pixel=None)
    for name, beads in (("beads", True), ("clean", False)):
        simulate_case(ct_path, tmp_path / name, dataclasses.replace(exact, beads=beads))
    jig = read_fiducials(tmp_path / "beads" / "fiducials.mrk.json")
    balls = SteelBalls(jig.position_lps_mm, np.where(jig.kind == 2, 3.0, 2.0))
    for posed in read_poses(tmp_path / "beads" / "ground_truth_poses.json"):
        with_beads, without = (pydicom.dcmread(tmp_path / name / posed.image).pixel_array.astype(float) for name in ("beads", "clean"))
        rounding = 1 / with_beads
        assert (np.abs(np.log(without / with_beads) - shadows(balls, posed.view)) < rounding).all()
        assert np.log(without / with_beads).max() > 3


def test_the_xrays_are_read_as_any_others(cases):
    for radiograph in read_radiographs(cases[0] / "xrays", cases[0]):
        image = attenuation(radiograph)
        assert not image.warnings and image.mask.mean() > 0.999
        assert image.air_intensity.value == pytest.approx(AIR_INTENSITY, rel=0.005)


def test_same_seed_same_files(cases, tmp_path):
    simulate_case(cases[0].parent / "ct.nrrd", tmp_path / "again", SMALL)
    for path in cases[0].rglob("*.*"):
        assert (tmp_path / "again" / path.relative_to(cases[0])).read_bytes() == path.read_bytes(), path.name


def test_an_unknown_jig_is_refused(cases, tmp_path):
    with pytest.raises(InputError, match="jig"):
        simulate_case(cases[0].parent / "ct.nrrd", tmp_path / "case", dataclasses.replace(SMALL, jig="helmet"))
    assert not any(tmp_path.iterdir())


# ---- detection


def test_beads_before_a_real_spine_are_found_with_their_sizes(sample_case, ct):
    """Both sizes, near the source and far from it, over bone that makes faint round spots; only shadows that touch may be missed."""
    posed = read_poses(sample_case / "lumbar" / "poses.json")
    center, missed, confused, count = np.array([0.0, -125.0, 300.0]), 0, 0, 0
    config, nothing = SimulationConfig(jig="belt"), (np.zeros((1, 1, 1), np.float32), VoxelGrid.box(center + 500, 1.0, 1.0))
    rng = np.random.default_rng(0)
    for number in (3, 8, 11, 17):
        balls = place_beads(config, ct, center, nothing, rng)
        view = posed[number].view
        spine = -np.log(pydicom.dcmread(sample_case / "lumbar" / posed[number].image).pixel_array / AIR_INTENSITY)
        stored = add_noise(spine + shadows(balls, view), 3e4, rng)
        beads = find_beads(-np.log(np.maximum(stored, 1) / AIR_INTENSITY), stored > 0, BeadSettings(polarity="bright"))
        seen = view.project(balls.center_lps_mm)
        radius = balls.radius_mm * 1020 / view.depth_mm(balls.center_lps_mm) / view.pixel_pitch_mm[0]
        gap = np.linalg.norm(seen[:, None] - seen, axis=-1) - radius[:, None] - radius + 1e3 * np.eye(len(seen))
        distance = np.linalg.norm(np.array([bead.center_px for bead in beads])[:, None] - seen, axis=-1)
        assert distance.min(1).max() < 3.0  # no false ones
        alone = np.flatnonzero(gap.min(1) > 1)
        count += len(alone)
        missed += int((distance.min(0)[alone] > 0.3).sum())
        confused += sum((beads[distance[:, bead].argmin()].size == "large") != balls.is_large[bead] for bead in alone)
    assert count > 45
    assert missed == 0
    assert confused == 0


@pytest.mark.parametrize(
    ("radii", "share"), [((2.0, 2.0), 0.6), ((2.0, 2.0), 0.9), ((3.0, 2.0), 0.6), ((3.0, 2.0), 0.8), ((3.0, 3.0), 0.7)]
)
def test_overlapping_shadows_are_told_apart(radii: tuple[float, float], share: float):
    """Two balls at different depths whose shadows overlap, beside others that tell the sizes."""
    view = random_poses(SimulationConfig(views=1, orbit="circular"), CENTER, np.random.default_rng(0))[0]
    others = [[-60, 0, -50], [-60, 0, 50], [60, 0, -50], [60, 0, 50], [0, 0, 70], [0, 0, -70]]
    gap = share * sum(radii)
    pair = [[0.0, -30.0, 0.0], [0.6 * gap, 30.0, 0.8 * gap]]
    balls = SteelBalls(CENTER + np.array([*others, *pair]), [3.0, 3.0, 3.0, 2.0, 2.0, 2.0, *radii])
    stored = add_noise(shadows(balls, view), 3e4, np.random.default_rng(1))
    beads = find_beads(-np.log(np.maximum(stored, 1) / AIR_INTENSITY), stored > 0, BeadSettings(polarity="bright"))
    distance = np.linalg.norm(np.array([bead.center_px for bead in beads])[:, None] - view.project(balls.center_lps_mm), axis=-1)
    assert len(beads) == len(balls)
    assert distance.min(0).max() < 0.15
    assert [beads[number].size == "large" for number in distance.argmin(0)] == balls.is_large.tolist()
