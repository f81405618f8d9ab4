"""The intrinsics file of a C-arm, and which X-rays share a camera."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from IntraopReconLib.core.calibration.intrinsics import EXAMPLE, Intrinsics, camera_groups, read_intrinsics
from IntraopReconLib.core.calibration.shots import positioner_prior, view_keys
from IntraopReconLib.core.calibration_config import CaseSettings
from IntraopReconLib.core.xrays.radiograph import Radiograph
from IntraopReconLib.core.xrays.sourced import Sourced
from SparseAnatomyLib.errors import InputError

SETTINGS = CaseSettings()


def _radiograph(name: str, size=(30, 20), spacing=(0.4, 0.3), distance: float | None = 1000.0, frame: int = 0) -> Radiograph:
    return Radiograph(
        name=name,
        path=Path(name),
        image=name,
        frame=frame,
        intensity=np.ones(size[::-1], np.float32),
        mask=np.ones(size[::-1], bool),
        response=None,
        bits_stored=12,
        pixel_spacing_mm=spacing and Sourced(spacing, "tag"),
        source_to_detector_mm=distance and Sourced(distance, "tag"),
    )


def test_the_example_of_the_remedy_can_be_read(tmp_path):
    (tmp_path / "arm.json").write_text(EXAMPLE)
    assert read_intrinsics(tmp_path / "arm.json") == Intrinsics(1000.0, (0.2, 0.2))


def test_every_value_is_read(tmp_path):
    content = {"source_to_detector_mm": 980.5, "pixel_pitch_mm": [0.2, 0.21], "principal_point_px": [511, 500.5], "measured": True}
    (tmp_path / "arm.json").write_text(json.dumps(content))
    assert read_intrinsics(tmp_path / "arm.json") == Intrinsics(980.5, (0.2, 0.21), (511.0, 500.5), True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source_to_detector_mm": None}, "source_to_detector_mm is missing"),
        ({"source_to_detector_mm": 1.0}, "source_to_detector_mm is 1, expected 200 to 5000"),
        ({"source_to_detector_mm": True}, "source_to_detector_mm"),
        ({"pixel_pitch_mm": "0.2"}, "pixel_pitch_mm"),
        ({"pixel_pitch_mm": [0.2, 0.2, 0.2]}, "pixel_pitch_mm"),
        ({"principal_point_px": [1]}, "principal_point_px"),
        ({"measured": 1}, "measured must be true or false"),
        ({"focal": 3}, "'focal' is no value"),
    ],
)
def test_a_wrong_value_is_named(tmp_path, change, words):
    (tmp_path / "arm.json").write_text(json.dumps(json.loads(EXAMPLE) | change))
    with pytest.raises(InputError, match=words) as caught:
        read_intrinsics(tmp_path / "arm.json")
    assert "arm.json" in caught.value.message
    assert caught.value.remedy


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.dictionaries(st.sampled_from(["source_to_detector_mm", "pixel_pitch_mm", "principal_point_px", "measured"]), JSON) | JSON)
def test_any_json_is_read_or_refused_in_a_sentence(tmp_path, content):
    (tmp_path / "arm.json").write_text(json.dumps(content))
    try:
        found = read_intrinsics(tmp_path / "arm.json")
    except InputError as error:
        assert error.remedy and "\n" not in error.message
    else:
        assert found.source_to_detector_mm > 0


def test_tags_give_the_camera_with_columns_first():
    groups, problems = camera_groups([_radiograph("a"), _radiograph("b")], None, SETTINGS)
    [group] = groups
    assert not problems
    assert (group.camera.size_px, group.camera.pixel_pitch_mm, group.camera.source_to_detector_mm) == ((30, 20), (0.3, 0.4), 1000.0)
    assert (group.numbers, group.measured, group.camera.principal_point_px) == ((0, 1), False, (14.5, 9.5))


def test_other_distances_make_other_cameras_and_silent_x_rays_go_with_most():
    views = [_radiograph("a"), _radiograph("b", distance=1200.0), _radiograph("c", distance=None), _radiograph("d", spacing=None)]
    groups, problems = camera_groups(views, None, SETTINGS)
    assert not problems
    assert [(group.camera.source_to_detector_mm, group.numbers) for group in groups] == [(1000.0, (0, 2, 3)), (1200.0, (1,))]


def test_what_differs_from_most_is_left_out_also_beside_an_intrinsics_file():
    views = [_radiograph("a"), _radiograph("b", size=(30, 18)), _radiograph("c", spacing=(0.2, 0.15)), _radiograph("d")]
    for stated in (None, Intrinsics(900.0, (0.3, 0.4), measured=True)):
        groups, problems = camera_groups(views, stated, SETTINGS)
        assert [group.numbers for group in groups] == [(0, 3)]
        assert set(problems) == {1, 2}
        assert "30 × 18 pixels" in problems[1].message
        assert "0.15 × 0.2 mm" in problems[2].message


def test_a_distance_that_is_none_is_told():
    with pytest.raises(InputError, match="a states a source-detector distance of 12 mm"):
        camera_groups([_radiograph("a", distance=12.0)], None, SETTINGS)


def test_names_of_files_are_unique_and_safe():
    names = ["xrays/view_000.dcm", "xrays/a/b.DCM", "xrays/a_b.dcm", "xrays/IM7", "elsewhere.dcm"]
    radiographs = [_radiograph(name) for name in names] + [_radiograph("xrays/run.dcm", frame=n) for n in range(2)]
    assert view_keys(radiographs) == ["view_000", "a_b", "a_b~2", "IM7", "elsewhere", "run_frame_0", "run_frame_1"]


def test_the_positioner_tells_the_direction_of_the_detector():
    view = replace(_radiograph("a"), positioner_primary_deg=Sourced(90.0, "tag"), positioner_secondary_deg=Sourced(0.0, "tag"))
    rotation = positioner_prior(view)[:3, :3]
    np.testing.assert_allclose(rotation[2], [1, 0, 0], atol=1e-12)  # the detector is at the patient's left
    np.testing.assert_allclose(rotation[1], [0, 0, -1], atol=1e-12)  # rows run towards the feet
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert positioner_prior(_radiograph("a")) is None
