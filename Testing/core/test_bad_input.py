"""What a user can get wrong, from the command line to the last file: one sentence, one remedy, and nothing that was there is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage
from tiny_case import write_ball_ct

from IntraopReconLib import cli
from IntraopReconLib.core.config import ReconstructionConfig
from IntraopReconLib.core.pipeline import job_folder, reconstruct_case
from IntraopReconLib.core.reconstruction import silent
from SparseAnatomyLib.errors import Cancelled
from SparseAnatomyLib.volumes import read_volume

VIEW = "view_005"
FAST = ("--quality", "preview", "--spacing", 4)


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> Path:
    """A folder with `case` (twelve X-rays of a ball), the `ct` it came from, and `result`, all made by the commands."""
    folder = tmp_path_factory.mktemp("bad_input")
    write_ball_ct(folder / "ct.nrrd")
    commands = (
        ("simulate", folder / "ct.nrrd", "--out", folder / "case", "--views", 12, "--size", 64, "--center", 0, 0, 0),
        ("reconstruct", folder / "case", "--out", folder / "result", *FAST),
        ("evaluate", folder / "result", "--ground-truth", folder / "case" / "ground_truth.nrrd"),
    )
    for command in commands:
        assert cli.main([str(argument) for argument in command]) == 0
    return folder


@pytest.fixture
def case(ready: Path, tmp_path: Path) -> Path:
    """A case of the test's own to damage."""
    return shutil.copytree(ready / "case", tmp_path / "case")


@pytest.fixture
def result(ready: Path, tmp_path: Path) -> Path:
    """A result of the test's own, which no failure may touch."""
    return shutil.copytree(ready / "result", tmp_path / "result")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(capsys, *arguments: Any) -> tuple[int, str]:
    """Run a command that must fail well; return its exit code and what it said."""
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code in (2, 4) and not captured.out, (code, captured)
    sentence, remedy = captured.err.splitlines()
    assert sentence.startswith("Error: ") and sentence.endswith(".") and remedy.endswith((".", "`")), captured.err
    assert "Traceback" not in captured.err and not any(word in captured.err for word in ("errno", "Errno", "nan:", "ValueError"))
    return code, captured.err


def edit_poses(case: Path, change: Callable[[list[dict]], None]) -> None:
    document = json.loads((case / "poses.json").read_text())
    change(document["views"])
    (case / "poses.json").write_text(json.dumps(document))


def set_field(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Return the damage that changes one field of one pose."""

    def damage(case: Path) -> None:
        edit_poses(case, lambda views: views[5].update({name: change(views[5][name])}))

    return damage


def _uncompressed(path: Path) -> Dataset:
    dataset = dcmread(path)
    dataset.decompress()
    return dataset


def on_xray(change: Callable[[Path], None]) -> Callable[[Path], None]:
    """Return the damage to the file of one X-ray."""
    return lambda case: change(case / "xrays" / f"{VIEW}.dcm")


def repaint(change: Callable[[np.ndarray], np.ndarray], everywhere: bool = False) -> Callable[[Path], None]:
    """Return the damage to the stored pixels of one X-ray, or of all."""

    def damage(case: Path) -> None:
        for path in (case / "xrays").glob("*.dcm" if everywhere else f"{VIEW}.dcm"):
            dataset = _uncompressed(path)
            dataset.PixelData = change(dataset.pixel_array).astype(np.uint16).tobytes()
            dataset.save_as(path)

    return damage


def _empty(case: Path) -> None:
    shutil.rmtree(case)
    case.mkdir()


def _no_xrays(case: Path) -> None:
    for path in (case / "xrays").iterdir():
        path.unlink()


def _make_ct(path: Path) -> None:
    dataset = dcmread(path)
    dataset.SOPClassUID, dataset.Modality = CTImageStorage, "CT"
    dataset.save_as(path)


def _make_smaller(path: Path) -> None:
    dataset = _uncompressed(path)
    dataset.PixelData = dataset.pixel_array[:48, :32].tobytes()
    dataset.Rows, dataset.Columns = 48, 32
    dataset.save_as(path)


def _rescale_nan(path: Path) -> None:
    dataset = dcmread(path)
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "0"
    dataset.save_as(path)
    path.write_bytes(path.read_bytes().replace(b"(\x00S\x10DS\x02\x001 ", b"(\x00S\x10DS\x04\x00nan "))


def _singular(case: Path) -> None:
    """Put one source onto its detector."""

    def change(views: list[dict]) -> None:
        origin, step = (views[5][name] for name in ("detector_origin_lps_mm", "column_step_lps_mm"))
        views[5]["source_lps_mm"] = [a + 9 * b for a, b in zip(origin, step, strict=True)]

    edit_poses(case, change)


def _in_meters(names: tuple[str, ...]) -> Callable[[Path], None]:
    def change(views: list[dict]) -> None:
        for view in views:
            view.update({name: [value / 1000 for value in view[name]] for name in names})

    return lambda case: edit_poses(case, change)


def _mirror(case: Path) -> None:
    def change(views: list[dict]) -> None:
        view = views[5]
        last, step = view["size_px"][0] - 1, view["column_step_lps_mm"]
        view["detector_origin_lps_mm"] = [a + last * b for a, b in zip(view["detector_origin_lps_mm"], step, strict=True)]
        view["column_step_lps_mm"] = [-value for value in step]

    edit_poses(case, change)


VECTORS = ("source_lps_mm", "detector_origin_lps_mm", "column_step_lps_mm", "row_step_lps_mm")
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "an empty folder": (_empty, "case is empty"),
    "no X-rays": (_no_xrays, "xrays"),
    "a text file named .dcm": (on_xray(lambda path: path.write_text("Patient was fine.\n" * 40)), VIEW),
    "an empty file": (on_xray(lambda path: path.write_bytes(b"")), VIEW),
    "a truncated file": (on_xray(lambda path: path.write_bytes(path.read_bytes()[:-200])), VIEW),
    "a file cut in its header": (on_xray(lambda path: path.write_bytes(path.read_bytes()[:300])), VIEW),
    "a CT": (on_xray(_make_ct), f"{VIEW}.dcm is not an X-ray image but CT"),
    "images of two sizes": (on_xray(_make_smaller), f"{VIEW}.dcm has 32 × 48 pixels, but its pose is for 64 × 64"),
    "no poses": (lambda case: (case / "poses.json").unlink(), "poses.json is missing"),
    "poses that are no JSON": (lambda case: (case / "poses.json").write_text('{"format":'), "poses.json is not a valid JSON file"),
    "a pose that lacks its source": (set_field("source_lps_mm", lambda old: None), f'{VIEW}.dcm): "source_lps_mm" is missing'),
    "a singular pose": (_singular, f"{VIEW}.dcm): the pose is singular"),
    "a mirrored pose": (_mirror, f"{VIEW}.dcm): the pose is mirrored"),
    "a pose in meters": (_in_meters(VECTORS), "millimeters"),
    "pixel steps in meters": (_in_meters(VECTORS[2:]), "millimeters"),
    "positions in meters": (_in_meters(VECTORS[:2]), "millimeters"),
    "NaN in a pose": (set_field("row_step_lps_mm", lambda old: [*old[:2], float("nan")]), f'{VIEW}.dcm): "row_step_lps_mm"'),
    "a pose for an image that is not there": (on_xray(Path.unlink), f"poses.json has a pose for xrays/{VIEW}.dcm"),
    "an all-black image": (repaint(np.zeros_like), f"{VIEW}.dcm is black"),
    "a saturated image": (repaint(lambda pixels: np.full_like(pixels, 65535)), f"{VIEW}.dcm is saturated"),
    "an image of one value": (repaint(lambda pixels: np.full_like(pixels, 1234)), f"{VIEW}.dcm has the same value"),
    "NaN in an image": (on_xray(_rescale_nan), VIEW),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_case_is_refused_and_the_earlier_result_stays(capsys, case, result, what):
    damage, words = DAMAGES[what]
    damage(case)
    before = content(result)
    code, said = refused(capsys, "reconstruct", case, "--out", result, *FAST)
    assert code == 2 and words in said, said
    assert content(result) == before
    refused(capsys, "reconstruct", case, "--out", case.parent / "new", *FAST)
    assert not (case.parent / "new").exists()


def _roi(folder: Path, **changes: Any) -> Path:
    roi = {"type": "ROI", "coordinateSystem": "LPS", "center": [0, 0, 0], "size": [60, 60, 60], "controlPoints": [{}], **changes}
    (folder / "roi.mrk.json").write_text(json.dumps({"markups": [roi]}))
    return folder / "roi.mrk.json"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"center": [0, 0, 900]}, "lies outside every view"),
        ({"center": [1e7, 0, 0]}, "lies outside every view"),
        ({"center": [float("nan"), 0, 0]}, "roi.mrk.json has no valid center"),
        ({"size": [60, 0, 60]}, "roi.mrk.json has no extent"),
        ({"size": [1e-6, 1e-6, 1e-6]}, "region of interest"),
        ({"size": [1e5, 1e5, 1e5]}, "spacing"),
        ({"type": "Fiducial"}, "roi.mrk.json holds no ROI"),
    ],
)
def test_a_region_that_will_not_do_is_refused(capsys, case, result, changes, words):
    before = content(result)
    _, said = refused(capsys, "reconstruct", case, "--out", result, *FAST, "--roi", _roi(case.parent, **changes))
    assert words in said
    assert content(result) == before


def _nan_truth(path: Path) -> None:
    array, grid = read_volume(path)
    array[3, 3, 3] = np.nan
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(grid.spacing_mm.tolist())
    SimpleITK.WriteImage(image, str(path))


def _elsewhere(path: Path) -> None:
    image = SimpleITK.ReadImage(str(path))
    image.SetOrigin((5000.0, 0.0, 0.0))
    SimpleITK.WriteImage(image, str(path))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        ("case/ground_truth.nrrd", Path.unlink, "ground_truth.nrrd is not there"),
        ("case/ground_truth.nrrd", lambda path: path.write_text("no volume"), "ground_truth.nrrd cannot be read"),
        ("case/ground_truth.nrrd", _cut, "ground_truth.nrrd cannot be read"),
        ("case/ground_truth.nrrd", _nan_truth, "ground_truth.nrrd holds voxels that are not numbers"),
        ("case/ground_truth.nrrd", _elsewhere, "ground_truth.nrrd does not overlap the result"),
        ("result/volume.nrrd", _cut, "volume.nrrd cannot be read"),
        ("result/coverage.nrrd", Path.unlink, "coverage.nrrd is not there"),
        ("result/views.npz", _cut, "views.npz is missing or damaged"),
        ("result/report.json", lambda path: path.write_text("{"), "report.json is missing or damaged"),
    ],
)
def test_a_result_or_truth_that_cannot_be_read_is_refused(capsys, case, result, file, damage, words):
    damage(case.parent / file)
    before = content(result)
    code, said = refused(capsys, "evaluate", result, "--ground-truth", case / "ground_truth.nrrd")
    assert code == 2 and words in said
    assert content(result) == before


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: path.write_text("no CT"), lambda path: path.write_bytes(b""), _cut, _nan_truth]
)
def test_a_ct_that_cannot_be_read_makes_no_case(capsys, ready, tmp_path, damage):
    damage(Path(shutil.copy(ready / "ct.nrrd", tmp_path)))
    code, said = refused(capsys, "simulate", tmp_path / "ct.nrrd", "--out", tmp_path / "case", "--views", 2)
    assert code == 2 and "ct.nrrd" in said
    assert not (tmp_path / "case").exists() and not list(tmp_path.glob(".case*"))


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on a file's size on Windows")
@pytest.mark.parametrize(
    ("command", "kilobytes"),
    [
        ("simulate", 1),
        ("simulate", 40),
        ("simulate", 100),
        ("evaluate", 1),
        ("reconstruct", 1),
        pytest.param("reconstruct", 40, marks=pytest.mark.slow),
        pytest.param("reconstruct", 400, marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_fills_up_loses_nothing(ready, case, result, command, kilobytes):
    """No file can grow beyond a limit, as on a disk without room: at the first byte, in the middle, near the end."""
    arguments = {
        "simulate": (ready / "ct.nrrd", "--out", case.parent / "new", "--views", 3, "--size", 256, "--center", 0, 0, 0),
        "reconstruct": (case, "--out", result, "--quality", "preview", "--spacing", 3),
        "evaluate": (result, "--ground-truth", case / "ground_truth.nrrd"),
    }[command]
    (result / "metrics.json").unlink(missing_ok=True)
    before = content(result)
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({kilobytes * 1024},) * 2)"
    code = f"import sys; from IntraopReconLib import cli; {limit}; sys.exit(cli.main(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    line = [sys.executable, "-c", code, command, *map(str, arguments)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        assert done.returncode == 4 and len(done.stderr.splitlines()) == 2 and "Traceback" not in done.stderr, done
        assert not (case.parent / "new").exists()
        after = {name: value for name, value in content(result).items() if "job.partial" not in name}
        assert after == before
    else:
        assert kilobytes > 1, done


@pytest.mark.parametrize("method", ["splat", "voxel"])
def test_a_run_that_ends_again_and_again_comes_to_the_same_volume(ready, tmp_path, monkeypatch, method):
    monkeypatch.setattr("IntraopReconLib.core.reconstruct.CHECKPOINT_SECONDS", 0.0)
    config = ReconstructionConfig(method=method, quality="preview", spacing_mm=4.0)
    whole, _ = read_volume(reconstruct_case(ready / "case", tmp_path / "whole", config, silent)["volume"])

    def end_at(limit: int) -> bool:
        """Run until that many reports have come; return whether it was done before."""
        reports = count(1)

        def report(fraction, message, preview=None):
            if next(reports) == limit:
                raise Cancelled

        try:
            reconstruct_case(ready / "case", tmp_path / "out", config, report)
        except Cancelled:
            assert job_folder(tmp_path / "out").is_dir()
            return False
        return True

    ended = [end_at(limit) for limit in (7, 11, 13, 17, 500)]
    assert not any(ended[:3]) and ended[-1]
    np.testing.assert_array_equal(read_volume(tmp_path / "out" / "volume.nrrd")[0], whole)
