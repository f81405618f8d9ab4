"""A case folder: images and poses join, and whatever does not fit is one clear sentence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from IntraopReconLib.core.calibration.poses import PosedImage, write_poses
from IntraopReconLib.core.case import Case, load_case
from IntraopReconLib.core.xrays.dicom_writer import XraySeries, write_xray
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.geometry import XrayView

AIR, SIZE = 50000, (36, 24)
SERIES = XraySeries("Test", "X-rays of a wedge", (0.0, 0.0, 0.0))


def _view(number: int, size: tuple[int, int] = SIZE) -> XrayView:
    return XrayView([10 * number, -600, 0], [-18, 420, 12], [1.0, 0, 0], [0, 0, -1.0], size)


def _line_integrals(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    row, column = np.mgrid[: size[1], : size[0]]
    return np.where(column < 10, 0.0, 0.03 * column + 0.01 * row + 0.1 * number)


def _write_image(folder: Path, number: int, size: tuple[int, int] = SIZE) -> str:
    name = f"xrays/view_{number:03d}.dcm"
    (folder / "xrays").mkdir(exist_ok=True)
    stored = np.random.default_rng(number).poisson(AIR * np.exp(-_line_integrals(number, size))).astype(np.uint16)
    write_xray(folder / name, stored, _view(number, size), SERIES, number + 1)
    return name


@pytest.fixture
def case_folder(tmp_path: Path) -> Path:
    """A case of four views."""
    folder = tmp_path / "knee"
    folder.mkdir()
    write_poses(folder / "poses.json", [PosedImage(_write_image(folder, n), _view(n), 0, AIR, 0.4, "green") for n in range(4)])
    return folder


def _edit(folder: Path, change: Callable[[list[dict]], None]) -> None:
    """Change the views in poses.json."""
    document = json.loads((folder / "poses.json").read_text())
    change(document["views"])
    (folder / "poses.json").write_text(json.dumps(document))


def _refused(folder: Path, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load_case(folder)
    assert caught.value.remedy
    assert "\n" not in caught.value.message


def _names(case: Case) -> list[str]:
    return [view.name for view in case.views]


def test_images_and_poses_join(case_folder: Path):
    case = load_case(case_folder)
    assert _names(case) == [f"xrays/view_{n:03d}.dcm" for n in range(4)]
    assert case.warnings == []
    for number, view in enumerate(case.views):
        assert view.geometry.source_lps_mm[0] == 10 * number
        assert view.attenuation.shape == view.mask.shape == SIZE[::-1]
        np.testing.assert_allclose(view.attenuation, _line_integrals(number), atol=0.06)
        assert np.abs((view.attenuation - _line_integrals(number)).mean()) < 1e-3


def test_hashes_are_those_of_the_files_used(case_folder: Path):
    _write_image(case_folder, 9)  # has no pose
    hashes = load_case(case_folder).input_hashes
    assert sorted(hashes) == ["poses.json", *(f"xrays/view_{n:03d}.dcm" for n in range(4))]
    for name, digest in hashes.items():
        assert digest == hashlib.sha256((case_folder / name).read_bytes()).hexdigest()


def test_air_intensity_is_estimated_where_it_is_absent(case_folder: Path):
    _edit(case_folder, lambda views: [view.pop("air_intensity") for view in views])
    for number, view in enumerate(load_case(case_folder).views):
        np.testing.assert_allclose(view.attenuation, _line_integrals(number), atol=0.06)


def test_an_image_without_a_pose_is_left_out(case_folder: Path):
    _edit(case_folder, lambda views: views.pop(1))
    case = load_case(case_folder)
    assert len(case.views) == 3
    assert case.warnings == ["xrays/view_001.dcm was left out: poses.json has no pose for it."]


def test_a_red_view_is_left_out(case_folder: Path):
    _edit(case_folder, lambda views: views[2].update(grade="red"))
    case = load_case(case_folder)
    assert "xrays/view_002.dcm" not in _names(case)
    assert "xrays/view_002.dcm was left out" in case.warnings[0]
    assert "xrays/view_002.dcm" not in case.input_hashes


@pytest.mark.parametrize(("red", "said"), [(3, "knee has one usable view"), (4, "knee has no usable view")])
def test_two_views_are_the_least(case_folder: Path, red: int, said: str):
    _edit(case_folder, lambda views: [view.update(grade="red") for view in views[:red]])
    _refused(case_folder, said)


def test_a_pose_for_an_image_that_is_not_there(case_folder: Path):
    (case_folder / "xrays" / "view_002.dcm").unlink()
    _refused(case_folder, r"xrays/view_002\.dcm.*no such image")
    _edit(case_folder, lambda views: views[2].update(image="xrays/" + "x" * 5000))
    _refused(case_folder, "no such image")


def test_a_pose_for_a_frame_that_is_not_there(case_folder: Path):
    _edit(case_folder, lambda views: views[2].update(frame=7))
    _refused(case_folder, r"frame 7 of xrays/view_002\.dcm")


def test_an_image_of_another_size_than_its_pose(case_folder: Path):
    _write_image(case_folder, 1, (30, 20))
    _refused(case_folder, r"view_001\.dcm has 30 × 20 pixels, but its pose is for 36 × 24")


def test_images_of_different_sizes_may_stand_together_if_their_poses_say_so(case_folder: Path):
    _write_image(case_folder, 1, (30, 20))
    _edit(case_folder, lambda views: views[1].update(size_px=[30, 20]))
    assert [view.attenuation.shape for view in load_case(case_folder).views] == [(24, 36), (20, 30), (24, 36), (24, 36)]


def test_an_image_elsewhere_in_the_case(case_folder: Path):
    (case_folder / "xrays" / "view_001.dcm").rename(case_folder / "moved")
    _edit(case_folder, lambda views: views[1].update(image="moved"))
    assert _names(load_case(case_folder))[1] == "moved"


def test_a_link_that_leads_outside(case_folder: Path):
    image = case_folder / "xrays" / "view_001.dcm"
    image.rename(case_folder.parent / "secret.dcm")
    try:
        image.symlink_to(case_folder.parent / "secret.dcm")
    except OSError:
        pytest.skip("links are not allowed here")
    _refused(case_folder, "outside the case folder")


def test_frames_of_one_file(case_folder: Path):
    path = case_folder / "xrays" / "view_000.dcm"
    dataset = dcmread(path)
    dataset.decompress(generate_instance_uid=False)
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    dataset.NumberOfFrames, dataset.PixelData = 2, dataset.PixelData * 2
    dataset.save_as(path)
    _edit(case_folder, lambda views: (views[1].update(image="xrays/view_000.dcm", frame=1), views.pop(), views.pop()))
    for number in (1, 2, 3):
        (case_folder / "xrays" / f"view_{number:03d}.dcm").unlink()
    case = load_case(case_folder)
    assert _names(case) == ["xrays/view_000.dcm, frame 0", "xrays/view_000.dcm, frame 1"]
    np.testing.assert_array_equal(case.views[0].attenuation, case.views[1].attenuation)


def test_folders_that_are_no_case(tmp_path: Path):
    _refused(tmp_path / "absent", "absent does not exist")
    (tmp_path / "empty").mkdir()
    _refused(tmp_path / "empty", "empty is empty")
    (tmp_path / "file").write_text("")
    _refused(tmp_path / "file", "file is a file")


def test_missing_poses_and_empty_images(case_folder: Path):
    for image in (case_folder / "xrays").iterdir():
        image.unlink()
    _refused(case_folder, "xrays holds no DICOM files")
    (case_folder / "poses.json").unlink()
    _refused(case_folder, r"poses\.json is missing from knee")


def _replace_with_text(path: Path) -> None:
    path.write_text("This is not an X-ray.")


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


def _make_ct(path: Path) -> None:
    dataset = dcmread(path)
    dataset.SOPClassUID, dataset.Modality = CTImageStorage, "CT"
    dataset.save_as(path)


def _fill(level: int) -> Callable[[Path], None]:
    def fill(path: Path) -> None:
        write_xray(path, np.full(SIZE[::-1], level, np.uint16), _view(1), SERIES, 2)

    return fill


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_replace_with_text, "not a DICOM file"),
        (_truncate, "truncated|damaged"),
        (_make_ct, "not an X-ray image but CT"),
        (_fill(0), "black"),
        (_fill(65535), "saturated"),
        (_fill(1000), "same value"),
    ],
)
def test_a_bad_image_is_named(case_folder: Path, damage: Callable[[Path], None], said: str):
    damage(case_folder / "xrays" / "view_001.dcm")
    _refused(case_folder, rf"xrays/view_001\.dcm.*({said})")
