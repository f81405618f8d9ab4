"""The shape benchmarks' own bookkeeping, and that every reference mode learns something; on toy ellipsoids."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK
from Testing.benchmarks import run
from Testing.benchmarks.shapes import accuracy, baselines, itk_contours, ours, tables, timing
from Testing.benchmarks.shapes.cases import AXES, Case, held_out_fold, make_case
from Testing.benchmarks.shapes.prepare import ORGANS, VISIBLE_HUMAN_LPS_MM, abdomen_axes, prepare, read_mesh, voxelized
from Testing.benchmarks.shapes.settings import DEFAULT, METHODS, Settings
from Testing.benchmarks.table import fill_readme

from ShapeCompletionLib.core.config import TrainingConfig
from ShapeCompletionLib.core.inr import initialise
from ShapeCompletionLib.core.meta_train import Training
from ShapeCompletionLib.core.shapes import TrainingShape
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.metrics import dice

VOXEL_MM = 4.0
PROVENANCE = {
    "command": "python -m Testing.benchmarks.run",
    "commit": "abc",
    "uncommitted_changes": False,
    "date": "2026-01-01",
    "threads": 1,
    "cpu": "Processor",
    "cores": 2,
    "memory_gb": 8.0,
    "load_at_start": 0.1,
    "system": "Linux",
    "versions": {"torch": "2"},
}


def ellipsoid(name: str, radii_mm: tuple[float, float, float], patient: str = "") -> TrainingShape:
    grid = VoxelGrid.box(np.zeros(3), 2 * np.array(radii_mm) + 20, 2.0)
    scaled = np.linalg.norm(grid.points_lps_mm() / radii_mm, axis=-1)
    field = np.maximum((1 - scaled) * min(radii_mm), -8.0).astype(np.float32)
    return TrainingShape(name, patient or name, field, grid)


@pytest.fixture(scope="module")
def shapes() -> list[TrainingShape]:
    rng = np.random.default_rng(0)
    return [ellipsoid(f"shape{n}", tuple(np.array([40.0, 25.0, 30.0]) * np.exp(rng.normal(0, 0.08, 3)))) for n in range(4)]


@pytest.fixture(scope="module")
def case() -> Case:
    return make_case(ellipsoid("unseen", (42.0, 24.0, 32.0)), "sagittal", 16.0, 1, VOXEL_MM)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(baselines, "MAML", replace(baselines.MAML, layers=4, width=48, first_omega=10.0))
    monkeypatch.setattr(baselines, "variations", lambda shapes, seed, original=baselines.variations: original(shapes, seed, 6))


def completed(baseline: baselines.Baseline, case: Case, steps: int) -> float:
    return dice(baselines.complete(baseline, case.view, case.grid, steps) > 0, case.truth)


def test_planes_lie_on_the_layers_of_the_grid(case: Case):
    x_mm = case.grid.origin_lps_mm[0] + case.grid.spacing_mm[0] * np.array(case.layers)
    np.testing.assert_allclose(sorted(one.origin_lps_mm[0] for one in case.slices), x_mm)
    assert np.abs(np.diff(x_mm) - 16).max() < 1e-9
    drawn = case.sparse_labels
    assert sorted(set(np.nonzero(drawn)[2])) == [layer for layer in case.layers if case.truth[:, :, layer].any()]
    np.testing.assert_array_equal(drawn[:, :, case.layers] > 0, case.truth[:, :, case.layers])


@pytest.mark.parametrize("kind", AXES)
def test_what_is_outlined_is_the_truth_of_those_layers(kind: str):
    case = make_case(ellipsoid("unseen", (42.0, 24.0, 32.0)), kind, 16.0, 2, 2.0)
    areas = [one.mask.sum() * np.prod(one.pixel_spacing_mm) for one in case.slices]
    truth = [case.truth.take(layer, AXES[kind]).sum() * 4.0 for layer in case.layers]
    heights = [np.argsort([one.normal_lps @ one.origin_lps_mm * np.sign(one.normal_lps.sum()) for one in case.slices])]
    np.testing.assert_allclose(np.array(areas)[heights[0]], truth, atol=0.06 * max(truth))


def test_a_case_refuses_planes_between_layers():
    with pytest.raises(ValueError, match="spacing_mm"):
        make_case(ellipsoid("unseen", (42.0, 24.0, 32.0)), "axial", 10.0, 0, VOXEL_MM)
    with pytest.raises(ValueError, match="kind"):
        make_case(ellipsoid("unseen", (42.0, 24.0, 32.0)), "oblique", 16.0, 0, VOXEL_MM)


def test_no_patient_is_on_both_sides():
    shapes = [ellipsoid(f"{patient}_{n}", (30.0, 20.0, 25.0), patient) for patient in "abcd" for n in range(1 + (patient == "a"))]
    training, held_out = held_out_fold(shapes, 3, 0)
    assert {one.patient for one in training}.isdisjoint({one.patient for one in held_out})
    assert len(training) + len(held_out) == len(shapes)


@pytest.mark.parametrize("train", [baselines.AutoDecoder, baselines.Pretrained, baselines.MetaLearned], ids=lambda one: one.__name__)
def test_each_baseline_learns(train, shapes, case: Case):
    untrained, trained = train(shapes, 0.0), train(shapes, 1.5)
    assert untrained.trained.steps == 0 < trained.trained.steps
    assert completed(trained, case, 1) > completed(untrained, case, 1) + 0.2


@pytest.mark.parametrize("mode", ["fomaml", "meta_sgd"])
def test_the_other_forms_of_maml_train(mode: str, shapes, case: Case):
    trained = baselines.MetaLearned(shapes, 0.2, mode=mode)
    assert trained.trained.steps > 0
    before, after = (baselines.complete(trained, case.view, case.grid, steps) for steps in (0, 1))
    assert np.abs(after - before).max() > 0


def test_the_exact_step_beats_no_step_and_more_steps_keep_what_was_solved(shapes, case: Case, monkeypatch):
    monkeypatch.setattr(ours, "_TRIED", 1)
    monkeypatch.setattr(accuracy, "STEPS", (1, 2))
    prior, trained = ours.train_ours(shapes, 2.0)
    alone = baselines.ImplicitAlone(prior.inr, trained)
    dices = [completed(alone, case, steps) for steps in (0, 1, 4)]
    assert dices[1] > max(0.8, dices[0])
    assert dices[2] > dices[1] - 0.05
    outcomes = list(accuracy.refined(prior)(case))
    assert [at for at, _, _ in outcomes] == ["1", "2"]
    assert all(dice(inside, case.truth) > 0.8 for _, _, inside in outcomes)


def test_blocks_near_the_surface_give_what_every_voxel_gives(case: Case):
    def evaluated(points):
        return 0.6 - (points * points.new_tensor([1.0, 1.5, 1.2])).norm(dim=-1)

    points = case.view.normalized(case.grid.points_lps_mm())
    whole = 0.6 - np.linalg.norm(points * [1.0, 1.5, 1.2], axis=-1)
    near = baselines.near_surface(evaluated, case.view, case.grid)
    assert near.shape == case.grid.shape_kji
    np.testing.assert_array_equal(near > 0, whole > 0)
    by_surface = np.abs(whole) < 0.02
    np.testing.assert_allclose(near[by_surface], whole[by_surface], atol=1e-5)


def test_the_paper_s_pipeline_takes_one_step_on_all_pixels(case: Case):
    network = initialise(3, 16, 10.0)
    values = baselines.naive(network, case.slices, case.grid)
    assert values.shape == case.grid.shape_kji
    still = baselines.naive({name: value.clone() for name, value in network.items()}, case.slices[:1], case.grid)
    assert np.abs(values - still).max() > 0


def test_convergence_is_ten_steps_without_a_lower_loss():
    convergence = baselines.Convergence()
    falling = [convergence.reached(1 / n) for n in range(1, 30)]
    flat = [convergence.reached(1.0) for _ in range(10)]
    assert not any(falling)
    assert flat == [False] * 9 + [True]


@pytest.mark.slow  # the first import of ITK takes long on a busy machine
def test_itk_fills_between_layers(case: Case):
    if not itk_contours.available():
        pytest.skip("needs itk-morphologicalcontourinterpolation (pip install -e '.[bench]')")
    filled, wall_s, cpu_s = itk_contours.interpolate([case.sparse_labels], [AXES[case.kind]])
    assert dice(filled[0], case.truth) > dice(case.sparse_labels > 0, case.truth) + 0.2
    assert wall_s.shape == cpu_s.shape == (1,)
    assert wall_s[0] > 0


def test_a_missing_package_is_a_row_that_says_so(monkeypatch, shapes, case: Case):
    monkeypatch.setattr(itk_contours, "available", lambda: False)
    row = accuracy.one_method("ITK contours", shapes, [case], Settings())
    assert "bench" in row["failure"]


def test_figures_are_means_over_cases(shapes, case: Case):
    row = accuracy.one_method("interpolation", shapes, [case, case], Settings())
    figures = row["layouts"]["sagittal 16 mm"]["1"]
    assert figures["cases"] == 2
    assert figures["dice_std"] == 0
    assert figures["dice"] > 0.85


def test_a_shape_that_is_not_there_has_no_surface_distance(case: Case):
    layouts = accuracy.measure_method(lambda case: iter([("1", 1, np.zeros_like(case.truth))]), [case])
    assert layouts[case.layout]["1"]["asd_mm"] is None
    assert layouts[case.layout]["1"]["dice"] == 0


def test_a_run_that_was_killed_goes_on(tmp_path):
    path, settings = tmp_path / "shapes.partial", Settings()
    accuracy.Progress(path, settings, "abc").get("MAML", lambda: {"name": "MAML"})
    again = accuracy.Progress(path, settings, "abc")
    assert again.get("MAML", lambda: pytest.fail("computed twice")) == {"name": "MAML"}
    for other in (accuracy.Progress(path, Settings(seed=1), "abc"), accuracy.Progress(path, settings, "def")):
        assert other.get("MAML", lambda: {"name": "new"}) == {"name": "new"}


def test_priors_are_measured_on_all_anatomy_but_their_own(tmp_path, monkeypatch, shapes):
    prior = ours.prior_so_far(Training(shapes[:1], TrainingConfig()))  # named "benchmark"
    prior = replace(prior, usual_evidence=1e9)  # nothing is like what it was trained on
    monkeypatch.setattr(accuracy, "_cards", lambda: [prior.card])
    monkeypatch.setattr(accuracy, "load_prior", lambda name: prior)
    k, j, i = np.indices((30, 40, 30)) - np.array([15, 20, 15])[:, None, None, None]
    ball = ((k / 10) ** 2 + (j / 15) ** 2 + (i / 10) ** 2 < 1).astype(np.uint8)
    for folder in ("benchmark", "unseen", "abdomen/liver", "abdomen/pancreas"):
        (tmp_path / folder).mkdir(parents=True)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(ball), str(tmp_path / folder / "one.nrrd"))
    rows = accuracy.transfer(tmp_path, Settings())
    assert [(row["prior"], row["anatomy"]) for row in rows] == [("benchmark", "liver"), ("benchmark", "unseen")]
    for row in rows:
        assert row["dice interpolate"] > 0.8
        assert row["completions"] == 2
        assert row["dice auto"] == row["dice interpolate"]  # an untrained residual network corrects nothing
    assert "mean" in tables.transfer_table(rows)


def test_moves_are_measured_beside_the_shapes_as_they_are(shapes):
    prior = ours.prior_so_far(Training(shapes[:1], TrainingConfig()))
    rows = accuracy.robustness(prior, [ellipsoid("unseen", (30.0, 20.0, 24.0))])
    assert [row["completions"] for row in rows] == [2, 2, 6, 3]
    plain, shifted, turned, three = (row["dice inr"] for row in rows)
    assert abs(plain - shifted) < 0.03
    assert abs(plain - turned) < 0.05
    assert three < plain


def test_every_method_can_be_made():
    assert set(DEFAULT) < set(METHODS)
    assert set(METHODS) - {"ours"} == set(accuracy._MAKERS)


def test_times_come_by_stage_and_method(shapes, monkeypatch):
    monkeypatch.setattr(itk_contours, "available", lambda: False)
    monkeypatch.setattr(timing, "AUTO_DECODER_STEPS", 1)
    part = timing.measure_timing(shapes[:1], 1, runs=2, slow_runs=1, voxel_mm=VOXEL_MM) | {"provenance": PROVENANCE}
    assert all(row["cpu_ms"] > 0 for row in part["rows"] if "failure" not in row)
    assert {"interpolation", "prior", "surface", "mesh"} <= {row["name"] for row in part["stages"]}
    text = tables.timing_text(part)
    assert "times our processor time" in text
    assert "failed: needs itk" in text


def part() -> dict:
    figures = {"dice": 0.9, "dice_std": 0.01, "asd_mm": 0.5, "steps": 40.0, "cases": 2}
    layouts = {"sagittal 8 mm": {"1": figures, "100": {**figures, "asd_mm": None}, "converged": figures}, "axial 8 mm": {"1": figures}}
    card = {"dice interpolate": 0.9, "dice inr": 0.93, "calibration error": 0.01, "shapes": 18.0}
    moved = {"dice interpolate": 0.9, "dice inr": 0.92}
    return {
        "provenance": PROVENANCE,
        "settings": {"budget_s": 120.0, "seed": 0, "most_steps": 300},
        "fold": {"held_out": ["a_1", "b_1"], "trained_on": ["c_1"]},
        "methods": [
            {"name": "MAML", "trained": {"cpu_s": 120.0, "steps": 1234}, "layouts": layouts},
            {"name": "ITK contours", "failure": "needs itk"},
        ],
        "robustness": [{"name": "as they are", **moved}, {"name": "turned", **moved, "dice inr": 0.915}],
        "priors": [{"name": "vertebra", "title": "Vertebra", "figures": {"sagittal 8 mm": card}}],
        "transfer": [
            {"prior": "vertebra", "anatomy": "liver", "dice interpolate": 0.9, "dice inr": 0.8, "dice auto": 0.91, "auto took inr": 0.5}
        ],
    }


def test_tables_show_what_was_measured():
    text = "\n\n".join(tables.markdown({"shapes": part()}))
    assert "| MAML | 0.900 ± 0.010 |  | 0.900 ± 0.010 | 0.900 ± 0.010 | 40 | 0.50 | ∞ | 120 (1,234) |" in text
    assert "| ITK contours | failed: needs itk |" in text
    assert "| turned | 0.900 | 0.915 | -0.005 |" in text
    assert "| vertebra on liver | 0.900 | 0.800 | 0.910 | +0.010 | 50 % |" in text
    assert "| Vertebra | sagittal 8 mm | 0.900 | 0.930 | 0.010 | 18 |" in text
    for block in text.split("\n\n"):
        assert len({line.count("|") for line in block.splitlines()}) == 1
    assert "Vertebra" in tables.readme_section({"shapes": part()})
    assert "earlier priors" not in tables.readme_section({"shapes": part()})
    assert "those that ship: vertebra." in tables.readme_section({"shapes": part() | {"newer": ["vertebra"]}})
    assert tables.readme_section({}) == ""


def test_tables_without_priors_say_so():
    bare = part() | {"priors": [], "transfer": []}
    assert "No prior ships" in tables.readme_section({"shapes": bare})


def test_a_readme_without_marks_keeps_its_text(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# Title\n")
    with pytest.raises(ValueError, match="shapes:start"):
        fill_readme(readme, "section", tables.README_MARKS)
    assert readme.read_text() == "# Title\n"
    readme.write_text("# Title\n{}\nold\n{}\n".format(*tables.README_MARKS))
    fill_readme(readme, "section", tables.README_MARKS)
    assert "section" in readme.read_text()
    assert "old" not in readme.read_text()


def test_results_are_written_even_if_the_readme_lacks_marks(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("<!-- benchmark:start --><!-- benchmark:end -->")
    monkeypatch.setattr(run, "REPOSITORY", tmp_path)
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "shapes.json").write_text(json.dumps(part()))
    with pytest.raises(ValueError, match="shapes:start"):
        run.write_tables()
    assert "vertebra on liver" in (tmp_path / "results" / "benchmark.md").read_text()


BOX = """v 0.0005 0.0005 0.0005
v 0.0205 0.0005 0.0005
v 0.0205 0.0305 0.0005
v 0.0005 0.0305 0.0005
v 0.0005 0.0005 0.0405
v 0.0205 0.0005 0.0405
v 0.0205 0.0305 0.0405
v 0.0005 0.0305 0.0405
f 1 4 3 2
f 5 6 7 8
f 1 2 6 5
f 2 3 7 6
f 3 4 8 7
f 4 1 5 8
"""


def test_a_mesh_in_metres_becomes_voxels_along_the_patient_s_axes(tmp_path):
    path = tmp_path / "box.obj"
    path.write_text(BOX)
    image = voxelized(read_mesh(path, VISIBLE_HUMAN_LPS_MM))
    array = SimpleITK.GetArrayFromImage(image)
    assert int(array.sum()) == 20 * 30 * 40
    inside = np.argwhere(array)[:, ::-1] + np.array(image.GetOrigin())
    # 20 mm to the front, 30 mm to the left, 40 mm up: x to the left, y to the back
    np.testing.assert_allclose(inside.mean(0), [15.5, -10.5, 20.5])
    np.testing.assert_allclose(np.ptp(inside, 0), [29, 19, 39])


def test_a_file_without_a_surface_is_refused(tmp_path):
    (tmp_path / "empty.obj").write_text("# nothing\n")
    with pytest.raises(InputError, match="no surface"):
        read_mesh(tmp_path / "empty.obj", np.eye(4))


def test_vertebrae_are_prepared_and_what_nobody_trains_on_is_kept_apart(tmp_path):
    folder = tmp_path / "data" / "shapes" / "vertebra"
    folder.mkdir(parents=True)
    for name in ("visible_human_L2", "visible_human_S1"):
        (folder / f"{name}.obj").write_text(BOX)
    written = prepare(tmp_path / "data", tmp_path / "out", ["vertebra", "unseen"])
    assert {name: [path.name for path in paths] for name, paths in written.items()} == {
        "vertebra": ["visible_human_L2.nrrd"],
        "unseen": ["visible_human_S1.nrrd"],
    }
    assert SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(written["vertebra"][0]))).any()


def abdomen(flips: tuple[int, int, int]) -> np.ndarray:
    """Return organs as voxels [k, j, i], each axis as it should run or the other way."""
    labels = np.zeros((20, 20, 20), np.uint8)
    for organ, (x, y, z) in {"liver": (4, 9, 12), "spleen": (15, 14, 13), "left_kidney": (13, 15, 5), "gallbladder": (6, 4, 9)}.items():
        labels[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = 1 + ORGANS.index(organ)
    return labels[:: flips[2], :: flips[1], :: flips[0]]


@pytest.mark.parametrize("flips", [(1, 1, 1), (1, -1, -1), (-1, -1, 1), (1, -1, 1)])
def test_organs_are_laid_along_the_patient_s_axes(flips, tmp_path):
    assert abdomen_axes(abdomen(flips), (1.0, 1.0, 2.0)) == flips
    folder = tmp_path / "data" / "shapes" / "abdomen"
    folder.mkdir(parents=True)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(abdomen(flips)), str(folder / "one.nii.gz"))
    written = prepare(tmp_path / "data", tmp_path / "out", ["abdomen"])
    assert sorted(written) == ["abdomen/gallbladder", "abdomen/left_kidney", "abdomen/liver", "abdomen/spleen"]
    spleen = SimpleITK.ReadImage(str(written["abdomen/spleen"][0]))
    middle = spleen.TransformIndexToPhysicalPoint([n // 2 for n in spleen.GetSize()])
    np.testing.assert_allclose(middle, [15, 14, 13])


def test_an_abdomen_without_its_landmarks_is_refused():
    with pytest.raises(InputError, match="no spleen"):
        abdomen_axes(np.zeros((4, 4, 4), np.uint8), (1.0, 1.0, 1.0))


def test_missing_data_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SPARSEANATOMY_DATA", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["run", "--part", "shapes", "--data", str(tmp_path / "nowhere")])
    assert run.main() == 2
    assert "nowhere" in capsys.readouterr().err
    with pytest.raises(InputError, match="holds no shapes of hippocampus"):
        (tmp_path / "shapes" / "hippocampus").mkdir(parents=True)
        prepare(tmp_path, tmp_path / "out", ["hippocampus"])
