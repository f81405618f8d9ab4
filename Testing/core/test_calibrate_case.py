"""From pixels to graded poses: a case folder is calibrated, hand edits count, and bad X-rays are named while the good ones go on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bead_scenes import pose, volume_jig
from calibrate_scenes import AIR, ANGLES, CAMERA, JIG, SERIES, bead_intensity, make_bead_case, write_bead_xray
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from IntraopReconLib.core.calibrate_case import CalibrationFiles, CaseCalibration, calibrate_case
from IntraopReconLib.core.calibration.calibration_file import read_record
from IntraopReconLib.core.calibration.correspondence import Beads
from IntraopReconLib.core.calibration.distortion import Distortion
from IntraopReconLib.core.calibration.distortion_file import write_distortion
from IntraopReconLib.core.calibration.fiducials import write_fiducials
from IntraopReconLib.core.calibration.poses import PosedImage, read_poses, write_poses
from IntraopReconLib.core.case import load_case
from IntraopReconLib.core.xrays.dicom import read_radiographs
from IntraopReconLib.core.xrays.dicom_writer import write_xray
from IntraopReconLib.core.xrays.radiograph import attenuation
from IntraopReconLib.worker import __main__ as worker
from SparseAnatomyLib.errors import Cancelled, InputError
from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.protocol import Request, Warn
from SparseAnatomyLib.worker import Job

VIEW_2 = "xrays/view_002.dcm"


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> tuple[Path, list[np.ndarray], CaseCalibration]:
    """A case of five good X-rays, calibrated; nobody writes into it."""
    folder = tmp_path_factory.mktemp("calibrate") / "knee"
    truths = make_bead_case(folder)
    write_poses(folder / "poses.json", [PosedImage(VIEW_2, CAMERA.view(truths[2]), 0, AIR)])
    return folder, truths, calibrate_case(folder)


@pytest.fixture
def case(calibrated, tmp_path: Path) -> Path:
    """A copy of it before it was calibrated."""
    folder = tmp_path / "knee"
    shutil.copytree(calibrated[0], folder, ignore=shutil.ignore_patterns("poses.json", "calibration"))
    return folder


def _data(folder: Path) -> dict:
    return json.loads((folder / "calibration" / "calibration.json").read_text())


def _view(folder: Path, name: str) -> dict:
    return next(view for view in _data(folder)["views"] if view["name"] == name)


def _keep(folder: Path, count: int) -> None:
    for path in sorted((folder / "xrays").iterdir())[count:]:
        path.unlink()


def _errors(posed: list[PosedImage], truths: list[np.ndarray]) -> list[float]:
    """Return how far the sources are off, mm."""
    return [float(np.linalg.norm(one.view.source_lps_mm - np.linalg.inv(truth)[:3, 3])) for one, truth in zip(posed, truths, strict=True)]


def test_poses_come_from_pixels_alone(calibrated):
    folder, truths, result = calibrated
    assert (result.grades, result.without_pose, result.warnings) == ({"green": 5, "amber": 0, "red": 0}, 0, [])
    posed = read_poses(folder / "poses.json")
    assert [one.image for one in posed] == [f"xrays/view_{n:03d}.dcm" for n in range(5)]
    assert max(_errors(posed, truths)) < 1.5  # two pixels that the principal point is off are hard to tell from a shift
    for one, truth in zip(posed, truths, strict=True):
        off = one.view.project(JIG.position_lps_mm) - CAMERA.view(truth).project(JIG.position_lps_mm)
        assert np.hypot(*off.T).max() < 0.15
        assert (one.grade, one.reprojection_rms_px < 0.1) == ("green", True)


def test_air_intensity_of_an_earlier_pose_is_kept(calibrated):
    assert [one.air_intensity for one in read_poses(calibrated[0] / "poses.json")] == [None, None, AIR, None, None]


def test_the_report_holds_every_bead_and_a_picture_a_view(calibrated):
    folder, _, result = calibrated
    data = _data(folder)
    assert data["format"] == "SparseAnatomy calibration"
    assert "Research use only" in data["notice"]
    assert set(data["inputs_sha256"]) == {"fiducials.mrk.json", *(f"xrays/view_{n:03d}.dcm" for n in range(5))}
    html = result.paths["report_html"].read_text()
    assert "Research use only" in html
    assert "from fiducials.mrk.json" in html
    for view in data["views"]:
        assert sorted(bead["number"] for bead in view["beads"]) == list(range(1, 11))
        assert all(np.hypot(*bead["residual_px"]) < 0.3 and 1 < bead["radius_px"] < 6 for bead in view["beads"])
        assert view["picture"] in html
        with Image.open(folder / "calibration" / view["picture"]) as picture:
            assert min(picture.size) > 600
    assert "view_000.dcm: 10 of 10 beads explained" in html


def test_a_reconstruction_gets_x_rays_without_beads_and_their_mask(calibrated):
    folder, truths, _ = calibrated
    case = load_case(folder)
    assert case.warnings == ["Beads were taken out of 5 X-rays: what lay behind them does not count."]
    assert "calibration/calibration.json" in case.input_hashes
    for view, truth in zip(case.views, truths, strict=True):
        column, row = CAMERA.view(truth).project(JIG.position_lps_mm).round().astype(int).T
        assert not view.mask[row, column].any()
        assert view.mask.mean() > 0.9
        assert np.abs(view.attenuation[row, column]).max() < 0.15  # air around


def test_an_image_that_changed_keeps_its_beads(calibrated, tmp_path):
    folder = tmp_path / "knee"
    shutil.copytree(calibrated[0], folder)
    write_bead_xray(folder, 2, calibrated[1][1])
    warnings = load_case(folder).warnings
    assert any("view_002.dcm has changed since it was calibrated" in warning for warning in warnings)
    assert any("taken out of 4 X-rays" in warning for warning in warnings)


@pytest.mark.parametrize("change", [{"views": 3}, {"version": 2}, {"format": "x"}, {"views": [{"image": "a"}]}, {"views": [None]}])
def test_a_damaged_record_is_told(calibrated, tmp_path, change):
    folder = tmp_path / "knee"
    (folder / "calibration").mkdir(parents=True)
    (folder / "calibration" / "calibration.json").write_text(json.dumps(_data(calibrated[0]) | change))
    with pytest.raises(InputError, match=r"calibration/calibration\.json") as caught:
        read_record(folder)
    assert caught.value.remedy


def test_beads_placed_by_hand_go_before_those_detected(case, calibrated):
    _keep(case, 3)
    truth = CAMERA.view(calibrated[1][2]).project(JIG.position_lps_mm)
    moved = truth + [[8.0, 5.0]] * (np.arange(10) == 4)[:, None]
    (case / "calibration").mkdir()
    placed = np.column_stack([moved[1:], np.zeros(9)])  # one deleted, one moved off its bead
    write_fiducials(case / "calibration" / "beads_view_002.mrk.json", Beads(placed))
    calibrate_case(case)
    view = _view(case, VIEW_2)
    assert view["placed_by_hand"]
    assert view["explained"] == 8
    origins = [bead["origin"] for bead in view["beads"]]
    assert (origins.count("by hand"), origins.count("expected")) == (9, 2)
    assert [bead["number"] for bead in view["beads"] if bead["origin"] == "expected"] == [1, 5]
    assert "calibration/beads_view_002.mrk.json" in _data(case)["inputs_sha256"]
    record = read_record(case)
    assert len(record.views[VIEW_2, 0].beads) == 11


def test_hand_made_beads_outside_the_image_are_told(case):
    (case / "calibration").mkdir()
    write_fiducials(case / "calibration" / "beads_view_001.mrk.json", Beads(np.array([[300.0, 20.0, 0.0]])))
    with pytest.raises(InputError, match=r"beads_view_001\.mrk\.json: point 1 lies outside xrays/view_001\.dcm"):
        calibrate_case(case)


def _bad_views(case: Path) -> dict[str, str]:
    """Add bad X-rays to the good ones; return what is to be said about each."""
    truth = pose(20, -15, 4, JIG)
    view, stored = CAMERA.view(truth), bead_intensity(truth, JIG, 9)
    background = int(np.median(stored))
    few = bead_intensity(truth, replace(JIG, position_lps_mm=JIG.position_lps_mm[:5], kind=None), 9)
    zoomed = replace(CAMERA, source_to_detector_mm=1.45 * CAMERA.source_to_detector_mm)
    images = {
        "few": (few, view),
        "mirrored": (stored[:, ::-1].copy(), view),
        "cropped": (stored[10:-10].copy(), view.cropped((0, 10), (256, 220))),
        "binned": (
            stored,
            XrayView(view.source_lps_mm, view.detector_origin_lps_mm, 2 * view.column_step_lps_mm, 2 * view.row_step_lps_mm, view.size_px),
        ),
        "saturated": (np.full_like(stored, 65_535), view),
        "zoomed": (_rendered(zoomed, truth), view),
        "empty": (np.random.default_rng(3).normal(background, 50, stored.shape).astype(np.uint16), view),
    }
    for number, (name, (pixels, stated)) in enumerate(images.items(), 20):
        write_xray(case / "xrays" / f"{name}.dcm", pixels, stated, SERIES, number)
    write_xray(
        case / "xrays" / "view_009.dcm", bead_intensity(pose(*ANGLES[1], JIG), JIG, 9), CAMERA.view(pose(*ANGLES[1], JIG)), SERIES, 30
    )
    return {
        "few": "few.dcm shows 5 beads, but a pose needs at least 6",
        "mirrored": "mirrored.dcm is mirrored",
        "cropped": "cropped.dcm has 256 × 220 pixels, most X-rays 256 × 240: it looks cropped or zoomed",
        "binned": "binned.dcm has a pixel pitch of 2.6 × 2.7 mm",
        "saturated": "saturated.dcm is saturated almost everywhere",
        "zoomed": "zoomed.dcm looks cropped or zoomed",
        "empty": "empty.dcm shows 0 beads",
        "view_009": "view_009.dcm is the same shot as xrays/view_001.dcm",
    }


def _rendered(camera, camera_from_lps: np.ndarray) -> np.ndarray:
    import calibrate_scenes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate_scenes, "CAMERA", camera)
        return bead_intensity(camera_from_lps, JIG, 9)


def test_each_bad_x_ray_is_named_and_the_good_ones_go_on(case, calibrated):
    expected = _bad_views(case)
    result = calibrate_case(case)
    assert result.grades == {"green": 5, "amber": 0, "red": 8}
    assert result.without_pose == 7
    said = {Path(view["name"]).stem: view["problems"] for view in _data(case)["views"]}
    for name, words in expected.items():
        assert words in said[name][0]["message"]
        assert said[name][0]["remedy"]
        assert any(words in warning for warning in result.warnings)
    posed = {one.image: one.grade for one in read_poses(case / "poses.json")}
    assert posed == {f"xrays/view_{n:03d}.dcm": "green" for n in range(5)} | {"xrays/view_009.dcm": "red"}
    good = [one for one in read_poses(case / "poses.json") if one.grade == "green"]
    assert max(_errors(good, calibrated[1])) < 1.5
    for name in expected:
        assert (case / "calibration" / f"{name}.png").is_file()
    assert len(load_case(case).views) == 5


def test_a_mirrored_list_is_told_from_mirrored_x_rays(case):
    _keep(case, 2)
    write_fiducials(case / "fiducials.mrk.json", replace(JIG, position_lps_mm=JIG.position_lps_mm * [-1, 1, 1]))
    with pytest.raises(InputError, match="The X-rays and the list of the beads are mirror images of each other"):
        calibrate_case(case)


def test_distortion_is_corrected_in_poses_and_in_the_images_of_a_reconstruction(case, calibrated):
    corners = np.array([[0.0, 0.0], [255.0, 0.0], [255.0, 239.0], [0.0, 239.0]])
    terms = np.zeros((10, 2))  # 1; x, y; xx, xy, yy; xxx, xxy, xyy, yyy
    terms[[6, 8], 0] = terms[[7, 9], 1] = 20.0
    terms[[1, 2], [1, 0]] = 1.5, -1.5
    distortion = Distortion((256, 240), 3, terms, corners, kind="square")
    for number, truth in enumerate(calibrated[1]):
        write_bead_xray(case, number, truth, intensity=bead_intensity(truth, JIG, number, distortion))
    assert calibrate_case(case).grades["green"] < 5
    assert not (case / "calibration" / "distortion.json").exists()
    write_distortion(case / "arm.json", distortion)
    (case / "poses.json").unlink(missing_ok=True)
    result = calibrate_case(case, CalibrationFiles(distortion=case / "arm.json"))
    assert result.grades["green"] == 5
    assert "arm.json" in _data(case)["inputs_sha256"]
    posed = read_poses(case / "poses.json")
    for view, one, truth in zip(load_case(case).views, posed, calibrated[1], strict=True):
        off = one.view.project(JIG.position_lps_mm) - CAMERA.view(truth).project(JIG.position_lps_mm)
        assert np.hypot(*off.T).max() < 0.3
        column, row = one.view.project(JIG.position_lps_mm).round().astype(int).T
        assert not view.mask[row, column].any()
        assert view.mask.mean() > 0.8
    write_poses(case / "poses.json", [replace(one, view=one.view.transformed(affine(np.eye(3), [1, 0, 0]))) for one in posed])
    moved = load_case(case)
    assert any("not corrected in xrays/view_000.dcm and 4 more X-rays" in warning for warning in moved.warnings)
    np.testing.assert_array_equal(moved.views[0].attenuation[:9], attenuation(read_radiographs(case / "xrays")[0]).attenuation[:9])
    write_distortion(case / "arm.json", Distortion.none((512, 512)))
    with pytest.raises(InputError, match=r"arm\.json is for images of 512 × 512 pixels"):
        calibrate_case(case, CalibrationFiles(distortion=case / "arm.json"))


@pytest.mark.parametrize(
    ("position", "words"),
    [
        (JIG.position_lps_mm[:5], "The jig has 5 beads, but a pose needs at least 6"),
        (JIG.position_lps_mm / 1000, "meters, not millimeters"),
        (np.outer(np.arange(8.0), [10.0, 20.0, 5.0]), "on one line"),
    ],
)
def test_a_jig_of_no_use_is_refused_before_the_x_rays_are_read(case, position, words):
    for path in (case / "xrays").iterdir():
        path.write_bytes(b"")
    write_fiducials(case / "fiducials.mrk.json", Beads(position))
    with pytest.raises(InputError, match=words) as caught:
        calibrate_case(case)
    assert caught.value.remedy
    assert not (case / "poses.json").exists()


def test_another_jig_is_told_and_the_earlier_poses_stay(case, calibrated):
    _keep(case, 2)
    earlier = [PosedImage(VIEW_2, CAMERA.view(calibrated[1][2]))]
    write_poses(case / "poses.json", earlier)
    before = (case / "poses.json").read_bytes()
    write_fiducials(case / "other.mrk.json", volume_jig(seed=9, count=10))
    with pytest.raises(InputError, match=r"No X-ray of knee could be calibrated.*another phantom") as caught:
        calibrate_case(case, CalibrationFiles(fiducials=case / "other.mrk.json"))
    assert "calibration.html" in caught.value.remedy
    assert (case / "poses.json").read_bytes() == before
    assert _data(case)["without_pose"] == 2
    assert (case / "calibration" / "calibration.html").is_file()
    write_poses(case / "poses.json", [PosedImage(f"xrays/view_00{n}.dcm", CAMERA.view(calibrated[1][n]), 0, AIR) for n in (0, 1)])
    loaded = load_case(case)
    assert any("no pose for xrays/view_000.dcm and 1 more X-ray:" in warning for warning in loaded.warnings)
    np.testing.assert_array_equal(loaded.views[0].mask, attenuation(read_radiographs(case / "xrays")[0], AIR).mask)


def test_a_flat_jig_lowers_the_grade(tmp_path):
    flat = replace(JIG, position_lps_mm=JIG.position_lps_mm * [1, 1, 0.02])
    make_bead_case(tmp_path / "flat", flat, ((0, 80, 0), (25, 70, 3)))
    result = calibrate_case(tmp_path / "flat")
    assert result.grades["green"] == 0
    assert any("in one plane" in warning for warning in result.warnings)


def test_x_rays_without_tags_need_intrinsics(case):
    from pydicom import dcmread

    for path in (case / "xrays").iterdir():
        dataset = dcmread(path)
        for name in ("ImagerPixelSpacing", "DistanceSourceToDetector", "PositionerPrimaryAngle", "PositionerSecondaryAngle"):
            delattr(dataset, name)
        dataset.save_as(path)
    _keep(case, 4)
    with pytest.raises(InputError, match="pixel pitch and source-detector distance") as caught:
        calibrate_case(case)
    assert "--intrinsics" in caught.value.remedy
    (case / "arm.json").write_text(json.dumps({"source_to_detector_mm": 1000, "pixel_pitch_mm": [1.3, 1.35]}))
    assert calibrate_case(case, CalibrationFiles(intrinsics=case / "arm.json")).grades["green"] == 4
    assert 1002 < _data(case)["cameras"][0]["used"]["source_to_detector_mm"] < 1030  # from the nominal 1000 towards the true 1020
    kept = {"source_to_detector_mm": 1020, "pixel_pitch_mm": [1.3, 1.35], "principal_point_px": [129.5, 117], "measured": True}
    (case / "arm.json").write_text(json.dumps(kept))
    calibrate_case(case, CalibrationFiles(intrinsics=case / "arm.json"))
    assert _data(case)["cameras"][0]["used"] == {"source_to_detector_mm": 1020, "principal_point_px": [129.5, 117]}


def test_a_jig_described_in_another_frame_is_found_against_the_positioner(case):
    turn = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    write_fiducials(case / "fiducials.mrk.json", replace(JIG, position_lps_mm=JIG.position_lps_mm @ turn.T))
    _keep(case, 3)
    assert calibrate_case(case).grades["green"] == 3


def test_folders_and_earlier_poses_that_will_not_do(tmp_path, case):
    with pytest.raises(InputError, match="absent does not exist"):
        calibrate_case(tmp_path / "absent")
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match="bare has no folder xrays"):
        calibrate_case(tmp_path / "bare")
    _keep(case, 1)
    (case / "poses.json").write_text("{")
    result = calibrate_case(case)
    assert result.grades["green"] == 1
    assert any("earlier poses.json was not used" in warning for warning in result.warnings)
    assert len(read_poses(case / "poses.json")) == 1


def test_the_worker_answers_with_files_and_warnings(case):
    _keep(case, 2)
    write_bead_xray(case, 1, intensity=np.full((240, 256), 65_535, np.uint16))
    events = []
    job = Job(Request("1", "calibrate", {"case": str(case), "fiducials": str(case / "fiducials.mrk.json")}), events.append)
    paths = worker.calibrate(job)
    assert set(paths) == {"poses", "report_json", "report_html"}
    assert all(path.is_file() for path in paths.values())
    assert any(isinstance(event, Warn) and "view_001.dcm is saturated" in event.message for event in events)
    job.cancelled.set()
    with pytest.raises(Cancelled):
        worker.calibrate(job)


def test_pictures_of_an_earlier_calibration_go_and_other_files_stay(case):
    _keep(case, 2)
    calibrate_case(case)
    (case / "calibration" / "mine.png").write_bytes(b"mine")
    (case / "xrays" / "view_001.dcm").unlink()
    calibrate_case(case)
    assert sorted(path.name for path in (case / "calibration").iterdir()) == [
        "calibration.html",
        "calibration.json",
        "mine.png",
        "view_000.png",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["image", "frame", "sha256", "beads", "center_px"]), inner),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(views=JSON, bead=JSON)
def test_any_record_is_read_or_refused_in_a_sentence(tmp_path, views, bead):
    folder = tmp_path / "calibration"
    folder.mkdir(exist_ok=True)
    entry = {"image": "a", "frame": 0, "sha256": "0", "beads": [{"center_px": bead, "radius_px": bead}]}
    for content in (views, [entry]):
        (folder / "calibration.json").write_text(json.dumps({"format": "SparseAnatomy calibration", "version": 1, "views": content}))
        try:
            read_record(tmp_path)
        except InputError as error:
            assert error.remedy
