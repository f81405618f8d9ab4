"""A completion's folder: whole or not at all, and true to the completion."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from small_shape import GRID, outlined, small_completion
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkIOXML import vtkXMLPolyDataReader

from ShapeCompletionLib.core import result as result_module
from ShapeCompletionLib.core.config import CompletionConfig
from ShapeCompletionLib.core.result import check_not_foreign, write_completion
from ShapeCompletionLib.core.sampling import context_from_labels
from SparseAnatomyLib.errors import InputError, ResourceError
from SparseAnatomyLib.mesh import read_vtp, write_vtp
from SparseAnatomyLib.provenance import sha256
from SparseAnatomyLib.volumes import read_volume, write_volume

FILES = {"shape.nrrd", "probability.nrrd", "shape.vtp", "report.json"}
CONTEXT = replace(context_from_labels(outlined(), GRID), warnings=("The outline touches the edge.", "Few slices."))
COMPLETION = small_completion(CONTEXT, "vertebra")
PROVENANCE = {"inputs_sha256": {"segmentation": "0" * 64, "prior": "1" * 64}, "label": 1, "planes": None}


def write(folder, completion=COMPLETION):
    return write_completion(folder, completion, CONTEXT, CompletionConfig(steps=3), PROVENANCE)


def read_scalars(path):
    reader = vtkXMLPolyDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    return reader.GetOutput().GetPointData()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(tmp_path_factory.mktemp("results") / "deep" / "result")


def test_all_files_are_there_and_nothing_else(written):
    assert {path.name for path in written["shape"].parent.iterdir()} == FILES == {path.name for path in written.values()}
    assert set(written) == {"shape", "probability", "mesh_vtp", "report_json"}


def test_volumes_are_what_interfaces_say(written):
    probability, grid = read_volume(written["probability"])
    np.testing.assert_array_equal(probability, COMPLETION.probability)
    np.testing.assert_allclose(grid.lps_from_ijk, CONTEXT.grid.lps_from_ijk, atol=1e-9)
    shape = SimpleITK.ReadImage(str(written["shape"]))
    assert shape.GetPixelID() == SimpleITK.sitkUInt8
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(shape), COMPLETION.probability > 0.5)
    np.testing.assert_allclose(shape.GetOrigin(), CONTEXT.grid.origin_lps_mm)


def test_every_point_of_the_surface_keeps_its_confidence(written):
    np.testing.assert_array_equal(read_vtp(written["mesh_vtp"]).points_lps_mm, COMPLETION.mesh.points_lps_mm)
    scalars = read_scalars(written["mesh_vtp"])
    np.testing.assert_array_equal(vtk_to_numpy(scalars.GetArray("confidence")), COMPLETION.confidence)
    assert scalars.GetScalars().GetName() == "confidence"
    assert len(np.unique(COMPLETION.confidence)) > 100


def test_scalars_of_another_number_are_refused(tmp_path):
    with pytest.raises(ValueError, match="confidence: expected shape"):
        write_vtp(COMPLETION.mesh, tmp_path / "mesh.vtp", {"confidence": COMPLETION.confidence[1:]})
    assert list(tmp_path.iterdir()) == []


def test_the_report_says_how_it_came_about(written):
    report = json.loads(written["report_json"].read_text())
    assert "Research use only" in report["notice"] and "Not a medical device" in report["notice"]
    assert (report["method"], report["prior"], report["evidence"], report["agreement"]) == ("inr", "vertebra", 0.4, 0.9)
    assert report["reason"] == COMPLETION.reason
    assert report["warnings"] == ["The outline touches the edge.", "Few slices."]
    assert report["settings"] == {"method": "auto", "steps": 3, "spacing_mm": None, "device": "auto"}
    assert report["inputs_sha256"] == PROVENANCE["inputs_sha256"]
    assert report["next_slice"]["extent_mm"] == 30 and len(report["next_slice"]["normal_lps"]) == 3
    assert report["shape"]["volume_ml"] == pytest.approx(4 / 3 * np.pi, rel=0.05)  # a ball of 1 cm
    assert report["slices"] == {"number": 4, "empty": 0}
    assert report["versions"]["numpy"] == np.__version__
    assert report["seconds"] == {"complete": 0.1}


def test_what_is_not_known_is_null(tmp_path):
    completion = small_completion(CONTEXT, next_slice=None, agreement=float("nan"))
    report = json.loads(write(tmp_path, completion)["report_json"].read_text())
    assert report["next_slice"] is report["evidence"] is report["prior"] is report["agreement"] is None


def test_an_empty_surface_is_written(tmp_path):
    nothing = np.zeros_like(COMPLETION.probability)
    mesh = replace(COMPLETION.mesh, points_lps_mm=np.zeros((0, 3), np.float32), triangles=np.zeros((0, 3), np.int64))
    paths = write(tmp_path, replace(COMPLETION, probability=nothing, mesh=mesh, confidence=np.zeros(0, np.float32)))
    assert len(read_vtp(paths["mesh_vtp"]).triangles) == 0


@pytest.mark.parametrize("stage", ["write_volume", "write_vtp"])
@pytest.mark.parametrize(("code", "sentence"), [(errno.ENOSPC, "is full"), (errno.EIO, "could not be written")])
def test_a_failing_disk_leaves_the_earlier_result(tmp_path, monkeypatch, stage, code, sentence):
    write(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(result_module, stage, fail)
    with pytest.raises(ResourceError, match=sentence) as caught:
        write(tmp_path, small_completion(CONTEXT))
    assert caught.value.remedy
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_in_the_folders_place(tmp_path):
    (tmp_path / "result").write_text("mine")
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "result")
    assert (tmp_path / "result").read_text() == "mine"


def test_where_one_file_cannot_be_replaced_all_stay(tmp_path, monkeypatch):
    write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    replace_file = os.replace

    def held_open(source, target):
        if Path(target) == tmp_path / "shape.vtp" and "before" not in str(source):
            raise PermissionError(errno.EACCES, "The file is open in another program")
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", held_open)
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path, small_completion(CONTEXT, agreement=0.1))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_another_run_is_writing_stays_and_what_a_kill_left_goes(tmp_path):
    running, left = (tmp_path / f".result-{name}.partial" for name in ("running", "left"))
    for folder in (running, left):
        folder.mkdir()
    os.utime(left, (0, 0))
    write(tmp_path)
    assert running.is_dir() and not left.exists()


def test_only_files_of_an_earlier_shape_are_replaced(tmp_path):
    check_not_foreign(tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "shape.stl").write_text("mine")
    with pytest.raises(InputError, match=r"shape\.stl that is of no earlier shape"):
        check_not_foreign(tmp_path)
    write(tmp_path / "other")
    (tmp_path / "other" / "metrics.json").write_text("{}")
    check_not_foreign(tmp_path / "other")
    write(tmp_path / "other")
    assert (tmp_path / "other" / "metrics.json").exists()
    (tmp_path / "other" / "report.json").write_text('{"format": "SparseAnatomy reconstruction report"}')
    with pytest.raises(InputError, match="no earlier shape"):
        check_not_foreign(tmp_path / "other")


def test_a_volume_keeps_its_pixel_type_and_hash(tmp_path):
    for name, dtype, pixel in (("a.nrrd", np.uint8, SimpleITK.sitkUInt8), ("b.nrrd", np.float32, SimpleITK.sitkFloat32)):
        write_volume(tmp_path / name, outlined(), GRID, dtype)
        assert SimpleITK.ReadImage(str(tmp_path / name)).GetPixelID() == pixel
    assert sha256(tmp_path / "a.nrrd") != sha256(tmp_path / "b.nrrd") and len(sha256(tmp_path / "a.nrrd")) == 64
