"""The way of a case: standardized into a folder of its own and back, in the pipeline and by command, with originals kept."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from calibrate_scenes import make_bead_case
from PIL import Image
from pydicom import dcmread
from standardize_scenes import AIR, EXPOSED, SIZE, bones, soft_tissue, stored_values, view_geometry, write_xray_case, xray
from test_standardize_trust import lettered, photograph
from tiny_case import fake_reconstruction, make_tiny_case
from xray_datasets import write, xray_dataset

from IntraopReconLib import cli
from IntraopReconLib.core import pipeline, standardize_case, standardized_case
from IntraopReconLib.core.calibrate_case import calibrate_case
from IntraopReconLib.core.calibration.poses import PosedImage, read_poses, write_poses
from IntraopReconLib.core.case import load_case
from IntraopReconLib.core.config import ReconstructionConfig
from IntraopReconLib.core.reconstruction import silent
from IntraopReconLib.core.standardization.choice import Chosen
from IntraopReconLib.core.standardization.classical import ClassicalStandardizer
from IntraopReconLib.core.standardization.standardize import standardize_views
from SparseAnatomyLib.errors import Cancelled, InputError, ResourceError

VIEWS = 3


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Let these tests be the same with and without trained weights."""
    monkeypatch.setattr(standardized_case, "choose", lambda config: Chosen(ClassicalStandardizer(config.classical), None, "No network."))


@pytest.fixture
def xrays(tmp_path) -> Path:
    """A case of real X-rays, as far as their files tell; one has letters."""
    images = [xray(n)[0] for n in range(VIEWS)]
    images[1] = lettered(images[1])
    return write_xray_case(tmp_path / "knee", images, **EXPOSED)


def test_a_standardized_case_is_a_case(xrays, tmp_path):
    seen = []
    done = standardize_case.standardize_case(xrays, tmp_path / "out", "auto", lambda share, what, _=None: seen.append(share))
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert done.used == {"classical": VIEWS}
    expected = standardize_views(load_case(xrays).views, ClassicalStandardizer())
    case = load_case(tmp_path / "out")
    for view, before in zip(case.views, expected, strict=True):
        np.testing.assert_array_equal(view.mask, before.view.mask)
        np.testing.assert_allclose(view.attenuation, before.view.attenuation, atol=1e-3)
        np.testing.assert_allclose(view.geometry.source_lps_mm, before.view.geometry.source_lps_mm)
        assert view.pose_sigma_mm == before.view.pose_sigma_mm
        assert view.stored.origin.shows_bone_only
    assert [posed.air_intensity for posed in read_poses(tmp_path / "out" / "poses.json")] == [60_000] * VIEWS


def test_the_files_of_a_standardized_case(xrays, tmp_path):
    standardize_case.standardize_case(xrays, tmp_path / "out", "classical")
    data = json.loads((tmp_path / "out" / "standardization.json").read_text())
    assert (data["format"], data["version"], data["method"], data["applies"]) == ("SparseAnatomy standardization", 1, "classical", True)
    assert [len(view["findings"]) for view in data["views"]] == [0, 1, 0]
    assert data["views"][1]["findings"][0]["kind"] == "text"
    assert any("letters" in warning for warning in data["warnings"])
    for view in data["views"]:
        for place, digest in ((view["image"], view["sha256"]), (view["original"], view["original_sha256"])):
            assert hashlib.sha256((tmp_path / "out" / place).read_bytes()).hexdigest() == digest
        with Image.open(tmp_path / "out" / view["picture"]) as picture:
            assert picture.width > 3 * picture.height
        dataset = dcmread(tmp_path / "out" / view["image"])
        assert dataset.DerivationDescription.startswith("Bone-only standardized X-ray (classical)")
        assert "Doe" not in str(dataset)  # the patient of the test images
    original = load_case(tmp_path / "out" / "original")
    for view, before in zip(original.views, load_case(xrays).views, strict=True):
        np.testing.assert_array_equal(view.attenuation, before.attenuation)


def test_a_view_that_is_left_as_it_is_says_so(tmp_path):
    images = [xray(0)[0], xray(1)[0], np.clip(16 * photograph(), 0, 2**16 - 1).astype(np.uint16)]
    folder = write_xray_case(tmp_path / "case", images, **EXPOSED)
    done = standardize_case.standardize_case(folder, tmp_path / "out")
    assert done.used == {"classical": 2, "original": 1}
    assert any("photograph" in warning for warning in done.warnings)
    before, after = load_case(folder).views[2], load_case(tmp_path / "out").views[2]
    both = before.mask & after.mask
    assert both.mean() > 0.9
    np.testing.assert_allclose(after.attenuation[both], before.attenuation[both], atol=0.01)


def test_frames_of_one_file_and_names_that_clash(tmp_path):
    (tmp_path / "case" / "xrays" / "a").mkdir(parents=True)
    (tmp_path / "case" / "xrays" / "b").mkdir()
    pixels = np.stack([xray(n)[0] for n in range(2)])
    write(tmp_path / "case" / "xrays" / "run.dcm", xray_dataset(pixels, 16, **EXPOSED))
    write(tmp_path / "case" / "xrays" / "a" / "x.dcm", xray_dataset(pixels[:1], 16, **EXPOSED))
    write(tmp_path / "case" / "xrays" / "b" / "X.dcm", xray_dataset(pixels[1:], 16, **EXPOSED))
    places = [("xrays/run.dcm", 0), ("xrays/run.dcm", 1), ("xrays/a/x.dcm", 0), ("xrays/b/X.dcm", 0)]
    posed = [PosedImage(image, view_geometry(number), frame, AIR) for number, (image, frame) in enumerate(places)]
    write_poses(tmp_path / "case" / "poses.json", posed)
    standardize_case.standardize_case(tmp_path / "case", tmp_path / "out")
    assert len(load_case(tmp_path / "out").views) == len({one.image for one in read_poses(tmp_path / "out" / "poses.json")}) == 4
    assert len(load_case(tmp_path / "out" / "original").views) == 4


def test_a_red_view_is_left_out_and_its_original_kept(xrays, tmp_path):
    posed = read_poses(xrays / "poses.json")
    document = json.loads((xrays / "poses.json").read_text())
    document["views"][0]["grade"] = "red"
    (xrays / "poses.json").write_text(json.dumps(document))
    standardize_case.standardize_case(xrays, tmp_path / "out")
    assert [one.image for one in read_poses(tmp_path / "out" / "poses.json")] == [one.image for one in posed[1:]]
    assert (tmp_path / "out" / "original" / posed[0].image).is_file()
    assert len(load_case(tmp_path / "out" / "original").views) == VIEWS - 1


def test_beads_are_taken_out_before(tmp_path):
    make_bead_case(tmp_path / "case")
    calibrate_case(tmp_path / "case")
    standardize_case.standardize_case(tmp_path / "case", tmp_path / "out")
    before, after = load_case(tmp_path / "case"), load_case(tmp_path / "out")
    for one, other in zip(before.views, after.views, strict=True):
        assert not other.mask[~one.mask].any()
        assert other.attenuation.max() < 1.5  # of steel, 3 and more
    assert len(load_case(tmp_path / "out" / "original").views) == len(before.views)
    assert not (tmp_path / "out" / "calibration").exists()


@pytest.mark.parametrize("where", ["knee/xrays/new", "knee/xrays", "full", "file"])
def test_folders_that_will_not_do(xrays, tmp_path, where):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="folder|empty") as caught:
        standardize_case.standardize_case(xrays, tmp_path / where)
    assert caught.value.remedy
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full", "knee"]


@pytest.mark.parametrize("error", [Cancelled(), OSError(28, "No space left on device"), KeyError("bug")])
def test_a_failure_leaves_nothing(xrays, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(standardize_case, "write_poses", fail)
    with pytest.raises(ResourceError if isinstance(error, OSError) else type(error)):
        standardize_case.standardize_case(xrays, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["knee"]


class Seen:
    """Stands for the reconstruction and keeps the views that it is given."""

    def __call__(self, views, config, report, checkpoint):
        self.views = views
        return fake_reconstruction(views, config)


@pytest.fixture
def seen(monkeypatch) -> Seen:
    """The reconstruction."""
    reconstruct = Seen()
    monkeypatch.setattr(pipeline, "reconstruct", reconstruct)
    return reconstruct


def test_the_pipeline_standardizes_xrays_and_shows_before_and_after(xrays, tmp_path, seen):
    paths = pipeline.reconstruct_case(xrays, tmp_path / "out", ReconstructionConfig(spacing_mm=4.0), silent)
    raw = load_case(xrays).views
    for view, before, expected in zip(seen.views, raw, standardize_views(raw, ClassicalStandardizer()), strict=True):
        np.testing.assert_array_equal(view.attenuation, expected.view.attenuation)
        assert view.attenuation[view.mask].mean() < 0.5 * before.attenuation[view.mask].mean()
    report = json.loads(paths["report_json"].read_text())
    assert report["standardization"]["applies"]
    assert "tube voltage" in report["standardization"]["reason"]
    assert [view["used"] for view in report["standardization"]["views"]] == ["classical"] * VIEWS
    assert "No network." in report["warnings"]
    assert any("letters" in warning for warning in report["warnings"])
    assert report["settings"]["standardize"] == "auto"
    html = paths["report_html"].read_text()
    assert html.count("before, bone, taken away, uncertainty") == VIEWS
    assert "tube voltage" in html
    with np.load(paths["views"]) as arrays:
        np.testing.assert_allclose(arrays["original_000"], raw[0].attenuation, atol=0.01)


def test_no_standardization_where_none_is_wanted(xrays, tmp_path, seen):
    config = ReconstructionConfig(spacing_mm=4.0, standardize="off")
    paths = pipeline.reconstruct_case(xrays, tmp_path / "out", config, silent)
    for view, before in zip(seen.views, load_case(xrays).views, strict=True):
        np.testing.assert_array_equal(view.attenuation, before.attenuation)
    assert "not standardized, as asked for" in paths["report_html"].read_text()
    with np.load(paths["views"]) as arrays:
        assert "original_000" not in arrays


@pytest.mark.parametrize("air", [AIR, None])
def test_drrs_of_other_programs_are_left_alone(tmp_path, seen, air):
    images = [stored_values(bones(seed=n) + 0.05 * soft_tissue(), seed=n) for n in range(VIEWS)]
    folder = write_xray_case(tmp_path / "drr", images, air)
    paths = pipeline.reconstruct_case(folder, tmp_path / "out", ReconstructionConfig(spacing_mm=4.0), silent)
    for view, before in zip(seen.views, load_case(folder).views, strict=True):
        np.testing.assert_array_equal(view.attenuation, before.attenuation)
    report = json.loads(paths["report_json"].read_text())["standardization"]
    assert not report["applies"]
    assert "computed images of bone" in report["reason"]
    assert "computed images of bone" in paths["report_html"].read_text()


def test_our_own_drrs_and_standardized_cases_are_left_alone(xrays, tmp_path, seen):
    standardize_case.standardize_case(xrays, tmp_path / "standardized")
    for folder in (make_tiny_case(tmp_path), tmp_path / "standardized"):
        paths = pipeline.reconstruct_case(folder, tmp_path / "out", ReconstructionConfig(spacing_mm=4.0), silent)
        assert "bone only" in json.loads(paths["report_json"].read_text())["standardization"]["reason"]


def test_a_drr_that_is_asked_for_stays_as_it_is(tmp_path):
    done = standardize_case.standardize_case(make_tiny_case(tmp_path), tmp_path / "out")
    assert set(done.used) == {"original"}


def run(capsys, *arguments):
    """Run a command; return its exit code, stdout and stderr."""
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command(capsys, xrays, tmp_path, monkeypatch):
    code, out, err = run(capsys, "standardize", xrays, "--out", tmp_path / "out", "--method", "classical")
    assert code == 0
    assert f"{VIEWS} without a network" in out
    assert str(tmp_path / "out" / "standardization.json") in out
    assert "letters" in err
    code, out, err = run(capsys, "standardize", xrays, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert "is not empty" in err
    assert run(capsys, "standardize", tmp_path / "nothing", "--out", tmp_path / "new")[0] == 2
    shutil.rmtree(tmp_path / "out")
    for error, expected in ((Cancelled(), 3), (KeyboardInterrupt(), 3), (OSError(28, "No space left on device"), 4), (MemoryError(), 4)):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(standardize_case, "standardized_case", fail)
        assert run(capsys, "standardize", xrays, "--out", tmp_path / "out")[0] == expected
        assert not (tmp_path / "out").exists()


def test_many_views_take_seconds():
    import time

    attenuation, mask = (bones() + soft_tissue()).astype(np.float32), np.ones((SIZE, SIZE), bool)
    large, everywhere = np.kron(attenuation, np.ones((4, 4), np.float32))[:512, :512], np.kron(mask, np.ones((4, 4), bool))[:512, :512]
    started = time.process_time()
    for _ in range(5):
        ClassicalStandardizer().bone(large, everywhere, 0.4)
    assert time.process_time() - started < 5 * 0.4
