"""The case report: strict JSON, one self-contained page, nothing unknown shown as air."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from small_result import small_case, small_reconstruction

from IntraopReconLib.core import report_figures
from IntraopReconLib.core.config import ReconstructionConfig, Region
from IntraopReconLib.core.reconstruction import CurvePoint, ViewFit
from IntraopReconLib.core.report import add_pictures
from IntraopReconLib.core.result import write_result
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.provenance import RESEARCH_USE_ONLY, json_ready


def written(out, case=None, **changes):
    case = case or small_case()
    write_result(out, small_reconstruction(case, **changes), case)
    return json.loads((out / "report.json").read_text(), parse_constant=pytest.fail), (out / "report.html").read_text()


def decoded(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB")).astype(int)


def amber(picture):
    """Where a picture shows the hatching's bright stripe."""
    return (picture[..., 0] > 200) & (abs(picture[..., 1] - 168) < 40) & (picture[..., 2] < 110)


def test_json_says_what_was_done(tmp_path):
    config = ReconstructionConfig(seed=7, region=Region((0, 0, 0), (10, 20, 30)))
    data, _ = written(tmp_path, config=config, warnings=["Few views."], grade="poor")
    assert data["grade"] == "poor"
    assert data["warnings"] == ["xrays/view_001.dcm: the air intensity was estimated.", "Few views.", *data["warnings"][2:]]
    assert data["settings"]["seed"] == 7
    assert data["settings"]["region"]["extent_mm"] == [10, 20, 30]
    assert data["inputs_sha256"] == small_case().input_hashes
    assert data["candidates_withheld_rmse"] == {"voxel": 0.02, "splat": 0.03}
    assert [view["withheld"] for view in data["views"]] == [False, False, True]
    assert data["fit"]["withheld"] == {"views": 1, "psnr_db": 36.0, "ssim": 0.97}
    assert data["fit"]["used"]["psnr_db"] == pytest.approx(37.5)
    assert data["bone"]["volume_ml"] == pytest.approx(4 / 3 * np.pi * 1.4**3, rel=0.1)
    assert data["unknown_percent"] == pytest.approx(100 * 8**3 / (24 * 26 * 28))
    assert data["versions"]["numpy"] == np.__version__
    assert data["seconds"] == {"coarse": 1.0, "fine": 1.0}
    assert len(data["curve"]) == 3


def test_page_is_one_file_that_needs_no_network(tmp_path):
    _, html = written(tmp_path)
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert len(sources) == 3 + 2  # views, slices, curve
    assert all(source.startswith("data:image/") for source in sources)
    assert "http" not in re.sub(r'"data:[^"]*"', "", html)
    assert "<script" not in html
    for source in sources:
        assert decoded(source).std() > 5


def test_page_says_first_how_far_to_trust_it(tmp_path):
    _, html = written(tmp_path, grade="poor", warnings=["Few views."])
    order = [html.index(text) for text in (RESEARCH_USE_ONLY, "<h1>", 'class="grade poor"', "Few views.", "<h2>Summary")]
    assert order == sorted(order)
    assert html.count(RESEARCH_USE_ONLY) == 2


def test_withheld_views_come_first_and_are_marked(tmp_path):
    _, html = written(tmp_path)
    cards = re.findall(r'<figure class="view ([a-z]*)">\s*<figcaption><span>([^<]*)<', html)
    assert cards == [("withheld", "xrays/view_002.dcm"), ("", "xrays/view_000.dcm"), ("", "xrays/view_001.dcm")]


def test_what_users_name_is_escaped_and_folders_are_not_told(tmp_path):
    case = small_case()
    object.__setattr__(case.views[0], "name", "<script>alert(1)</script>")
    object.__setattr__(case, "folder", case.folder / "DOE_JANE")
    fits = [ViewFit(view.name, False, 30.0, 0.9) for view in case.views]
    _, html = written(tmp_path, case, fits=fits, warnings=["<b>bold</b>"])
    assert "<script" not in html
    assert "<b>" not in html
    assert "DOE_JANE" not in html + (tmp_path / "report.json").read_text()


def test_nothing_withheld_and_nothing_finite_is_told_not_hidden(tmp_path):
    case = small_case()
    fits = [ViewFit(view.name, False, float("nan"), float("nan")) for view in case.views]
    data, html = written(tmp_path, case, fits=fits, curve=[CurvePoint(1.0, "fine", float("nan"))], candidates={"voxel": float("inf")})
    assert data["fit"]["withheld"] == {"views": 0, "psnr_db": None, "ssim": None}
    assert data["views"][0]["psnr_db"] is None
    assert "no X-ray was withheld" in html
    assert "Convergence" not in html
    assert "nan" not in re.sub(r'"data:[^"]*"', "", html).lower()


def test_no_bone_is_a_warning(tmp_path):
    grid = small_reconstruction(small_case()).grid
    data, _ = written(tmp_path, attenuation_per_mm=np.zeros(grid.shape_kji, np.float32))
    assert any("no bone surface" in warning for warning in data["warnings"])
    assert data["bone"]["triangles"] == 0


def test_everything_masked_or_unknown_is_no_crash(tmp_path):
    case = small_case()
    for view in case.views:
        view.mask[:] = False
    data, _ = written(tmp_path, case, coverage=np.zeros((28, 26, 24), np.float32))
    assert data["unknown_percent"] == 100


def test_unknown_voxels_are_hatched_and_known_air_is_not():
    case = small_case()
    known = np.ones((28, 26, 24), np.float32)
    half = known.copy()
    half[:, :, :12] = 0
    all_known, half_known, unknown = (
        amber(decoded(report_figures.slices(small_reconstruction(case, coverage=coverage), 0.015))).mean()
        for coverage in (known, half, 0 * known)
    )
    assert all_known == 0
    assert unknown > 0.2
    assert 0.25 * unknown < half_known < 0.75 * unknown


def test_masked_pixels_are_hatched_and_the_difference_has_its_sign():
    measured, mask = np.full((64, 64), 0.5), np.ones((64, 64), bool)
    mask[:, :32] = False
    strip = decoded(report_figures.view_strip(measured, measured - 0.05, mask, 1.0))
    tile = 256
    assert amber(strip[:, : tile // 2]).mean() > 0.2
    assert not amber(strip[:, tile // 2 + 8 : 2 * tile]).any()
    red, green, blue = strip[128, -30]
    assert red > 200 > green  # the volume attenuates too little
    assert abs(green - blue) < 12
    red, _, blue = decoded(report_figures.view_strip(measured, measured + 0.05, mask, 1.0))[128, -30]
    assert blue > 200 > red


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, -1, -1)])
def test_slices_turn_any_grid_the_patients_way(order, signs):
    """The voxel furthest to the left, posterior, superior is the last of all axes, however the grid is turned."""
    direction = (np.eye(3) * signs)[:, order]
    grid = VoxelGrid((4, 5, 6), [1.0, 2.0, 3.0], [0, 0, 0], direction)
    points = grid.points_lps_mm()
    for axis_spl, lps in enumerate((2, 1, 0)):
        turned, spacing_spl = report_figures._nearest_to_lps(points[..., lps], grid)
        steps = np.diff(turned, axis=axis_spl)
        assert (steps > 0).all()
        np.testing.assert_allclose(steps, spacing_spl[axis_spl])


def make_picture(path, color):
    Image.new("RGB", (40, 30), color).save(path)
    return path


def test_pictures_are_added_and_replaced(tmp_path):
    _, before = written(tmp_path)
    red, blue = make_picture(tmp_path / "red.png", "red"), make_picture(tmp_path / "blue.jpg", "blue")
    assert add_pictures(tmp_path, {"Front <1>": red, "Side": blue}) == tmp_path / "report.html"
    html = (tmp_path / "report.html").read_text()
    captions = re.findall(r"<figcaption>(Front[^<]*|Side)</figcaption>", html)
    assert captions == ["Front &lt;1&gt;", "Side"]
    assert "data:image/jpeg;base64," + base64.b64encode(blue.read_bytes()).decode() in html
    add_pictures(tmp_path, {"Top": red})
    html = (tmp_path / "report.html").read_text()
    assert "Side" not in html
    assert "Top" in html
    add_pictures(tmp_path, {})
    assert re.sub(r"\s+", "", (tmp_path / "report.html").read_text()) == re.sub(r"\s+", "", before)


def test_a_missing_picture_or_report_is_named_and_changes_nothing(tmp_path):
    _, before = written(tmp_path / "result")
    with pytest.raises(InputError, match=r"none\.png"):
        add_pictures(tmp_path / "result", {"None": tmp_path / "none.png"})
    assert (tmp_path / "result" / "report.html").read_text() == before
    with pytest.raises(InputError, match=r"report\.html"):
        add_pictures(tmp_path, {})
    (tmp_path / "report.html").write_text("<html>another page</html>")
    with pytest.raises(InputError, match="room for pictures"):
        add_pictures(tmp_path, {})


def test_json_ready():
    value = {"a": np.float32(0.5), "b": (np.int64(3), float("inf")), "c": np.array([1.0, np.nan]), 4: True, "d": None}
    assert json_ready(value) == {"a": 0.5, "b": [3, None], "c": [1.0, None], "4": True, "d": None}
