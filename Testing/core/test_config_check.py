"""Settings from outside: what is good passes unchanged, what is not names the setting."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from IntraopReconLib.core.config import ReconstructionConfig, Region
from IntraopReconLib.core.config_check import check_config, config_from_json
from SparseAnatomyLib.errors import InputError, ResourceError, SparseAnatomyError

TURNED = Region((1.0, 2.0, 3.0), (100.0, 80.0, 60.0), ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))


@pytest.mark.parametrize("config", [ReconstructionConfig(), ReconstructionConfig("voxel", "best", "cpu", 0.75, TURNED, 7, 500)])
def test_settings_survive_the_way_through_json(config):
    assert config_from_json(json.loads(json.dumps(config.to_json()))) == config


def test_what_is_left_out_has_its_default():
    assert config_from_json({"seed": 3}) == ReconstructionConfig(seed=3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "magic"}, "method"),
        ({"quality": None}, "quality"),
        ({"device": ["cpu"]}, "device"),
        ({"refine_poses": "yes"}, "refine_poses"),
        ({"spacing_mm": 0}, "spacing"),
        ({"spacing_mm": float("nan")}, "spacing"),
        ({"spacing_mm": "1"}, "spacing"),
        ({"spacing_mm": 1000}, "spacing"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": True}, "seed"),
        ({"ixgs_iterations": 0}, "ixgs_iterations"),
        ({"region": "all"}, "region"),
        ({"region": {"center_lps_mm": [0, 0, 0]}}, "region"),
        ({"region": {"center_lps_mm": [0, 0], "extent_mm": [1, 1, 1]}}, "region"),
        ({"region": {"center_lps_mm": [0, 0, "x"], "extent_mm": [1, 1, 1]}}, "region"),
        ({"region": {"center_lps_mm": [0, 0, float("inf")], "extent_mm": [1, 1, 1]}}, "region"),
        ({"region": {"center_lps_mm": [0, 0, 0], "extent_mm": [1, 0, 1]}}, "no extent"),
        ({"region": {"center_lps_mm": [0, 0, 0], "extent_mm": [1, 1, 1], "direction": [[1, 0, 0]] * 3}}, "perpendicular"),
        ({"color": "blue"}, "expected method, quality"),
    ],
)
def test_a_bad_setting_is_named(changes, words):
    with pytest.raises(InputError, match=words) as caught:
        config_from_json(changes)
    assert caught.value.remedy


def test_more_voxels_than_memory_is_a_matter_of_resources():
    with pytest.raises(ResourceError, match="voxels"):
        check_config(ReconstructionConfig(spacing_mm=0.1))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["center_lps_mm", "extent_mm", "direction"]), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(list(ReconstructionConfig().to_json())), anything) | anything)
def test_any_json_gives_settings_or_one_of_our_errors(values):
    try:
        assert isinstance(config_from_json(values), ReconstructionConfig)
    except SparseAnatomyError as error:
        assert error.kind in ("input", "resource")
