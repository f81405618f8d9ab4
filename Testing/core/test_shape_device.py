"""Completions and trainings on a graphics card: the same shapes as on the CPU, nothing left on the wrong side, and no loss where it fails.

Torch's device "cpu:0" goes every way that a card goes. The emulated card (see `card_emulation`) also refuses what is on the wrong side.
Both compute in float32, as a card does; so does the CPU here, which rounds a network's inputs otherwise.
"""

from __future__ import annotations

import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from card_emulation import CARD, emulated_card
from shape_toys import TURNED, Toy, moved, moved_grid, toy_prior
from small_shape import outlined, write_labels
from splat_scenes import NEEDS_CARD
from test_shape_interpolate import GRID, LAYOUTS
from Testing.benchmarks.shapes import timing

from ShapeCompletionLib import cli
from ShapeCompletionLib.core import _distance_torch, _interpolate_torch, _surface_torch, probe, trust
from ShapeCompletionLib.core import complete as completing
from ShapeCompletionLib.core import predict as predicting
from ShapeCompletionLib.core.align import Alignment
from ShapeCompletionLib.core.complete import complete
from ShapeCompletionLib.core.completion import Completion
from ShapeCompletionLib.core.config import DEVICES, CompletionConfig
from ShapeCompletionLib.core.config_check import config_from_json
from ShapeCompletionLib.core.cube import CubeView, cube_view
from ShapeCompletionLib.core.interpolate import interpolation_field
from ShapeCompletionLib.core.layouts import SliceLayout, outline
from ShapeCompletionLib.core.pipeline import complete_file, warm_up
from ShapeCompletionLib.core.prior import Prior
from ShapeCompletionLib.core.sampling import Context
from ShapeCompletionLib.core.surface import evaluate
from SparseAnatomyLib import devices, work_device
from SparseAnatomyLib.devices import DeviceChoice
from SparseAnatomyLib.errors import Cancelled, InputError
from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.grid import VoxelGrid

ON_CARD, ON_CPU = "Runs on a card.", "Runs on the CPU."
SHIFT_MM = np.array([33.0, -12.5, 210.0])


@pytest.fixture(autouse=True)
def _exact(monkeypatch):
    """Compute in float32, and know of no card that failed."""
    monkeypatch.setattr(predicting, "half_precision", nullcontext)
    monkeypatch.setattr(work_device, "_lost", set())


@pytest.fixture
def complete_on(monkeypatch):
    """Return a function that completes on a device, whatever the config asks for."""

    def run(device: str, context: Context, prior: Prior | None, config: CompletionConfig | None = None, report=None) -> Completion:
        choice = DeviceChoice(device, "torch", ON_CPU if device == "cpu" else ON_CARD)
        with monkeypatch.context() as patch:
            patch.setattr(completing, "choose_device", lambda wanted, say: choice)
            return complete(context, prior, config, report)

    return run


def correcting(**changes) -> Prior:
    """Return a prior whose residual network corrects something, by chance."""
    prior = toy_prior(**changes)
    torch.nn.init.normal_(prior.refine.exit.weight, std=0.05, generator=torch.Generator().manual_seed(1))
    return prior


def turned(context: Context) -> Context:
    return Context(tuple(moved(one, TURNED, SHIFT_MM) for one in context.slices), moved_grid(context.grid, TURNED, SHIFT_MM))


CONTEXTS = {
    "parallel": Toy().context("axial"),
    "three planes": Toy().context("three"),
    "turned": turned(Toy().context("axial", 8.0, 1.5)),
    "known to be empty": Toy().context("sagittal", 12.0, keep_empty=True),
    "close": Toy().context("axial", 2.0),
}
ASKED = {
    "auto": (correcting(), CompletionConfig()),
    "three steps": (correcting(), CompletionConfig("inr", 3)),
    "moved": (correcting(usual_evidence=np.inf), CompletionConfig("inr")),
    "left out": (correcting(usual_evidence=np.inf), CompletionConfig("auto")),
    "no prior": (None, CompletionConfig()),
}

EVERY_WAY = pytest.mark.parametrize(
    ("name", "asked"),
    [*((name, "auto") for name in CONTEXTS), *(("parallel", asked) for asked in ASKED if asked != "auto"), ("close", "no prior")],
)


def assert_same(done: Completion, expected: Completion) -> None:
    """Hold two completions to each other; of ten thousand voxels one may be looked at otherwise, where rounding decides how finely."""
    assert (np.abs(done.probability - expected.probability) > 1e-4).mean() < 1e-4
    np.testing.assert_allclose(done.probability, expected.probability, rtol=0, atol=0.05)
    sure = np.abs(expected.probability - 0.5) > 1e-4  # half way between two slices, a voxel may lie on the surface
    np.testing.assert_array_equal(done.shape[sure], expected.shape[sure])
    assert sure.mean() > 0.99
    assert (done.grid.size_ijk, done.method, done.warnings) == (expected.grid.size_ijk, expected.method, expected.warnings)
    assert done.agreement == pytest.approx(expected.agreement, abs=1e-3) and done.evidence == pytest.approx(expected.evidence, abs=1e-4)
    assert done.mesh.volume_mm3 == pytest.approx(expected.mesh.volume_mm3, rel=1e-4)


@EVERY_WAY
def test_the_way_over_a_card_gives_what_the_cpu_gives(complete_on, name, asked):
    expected, done = (complete_on(device, CONTEXTS[name], *ASKED[asked]) for device in ("cpu", "cpu:0"))
    assert_same(done, expected)
    assert (expected.device, done.device) == (ON_CPU, ON_CARD)


@EVERY_WAY
def test_on_a_card_nothing_is_left_on_the_wrong_side(complete_on, name, asked):
    expected = complete_on("cpu", CONTEXTS[name], *ASKED[asked])
    with emulated_card() as card:
        done = complete_on(CARD, CONTEXTS[name], *ASKED[asked])
    assert_same(done, expected)
    assert done.device == ON_CARD and card.uploads > 0


@pytest.mark.parametrize("steps", [1, 3])
def test_a_prior_that_is_moved_is_moved_on_the_card(monkeypatch, steps):
    matrix = affine(0.9 * TURNED, np.array([0.1, -0.05, 0.02]))
    monkeypatch.setattr(predicting, "align", lambda *_: Alignment(matrix, 0.0, 1.0, accepted=True))
    prior, slices = correcting(usual_evidence=np.inf), CONTEXTS["parallel"].slices
    expected = predicting.predict(prior, cube_view(slices, 96.0), steps)
    with emulated_card():
        done = predicting.predict(prior, cube_view(slices, 96.0, CARD), steps)
    assert done.moved and expected.moved and done.refined.device.type == CARD
    np.testing.assert_allclose(done.logits, expected.logits, atol=1e-3)


def test_slices_left_out_are_predicted_on_the_card(monkeypatch):
    view, seen = cube_view(CONTEXTS["parallel"].slices, 96.0, "cpu:0"), []
    monkeypatch.setattr(trust, "predict", lambda prior, rest: seen.append(rest.device) or predicting.predict(prior, rest))
    assert trust.predict_left_out(correcting(), view) is not None and seen == ["cpu:0"]


def test_little_goes_to_and_fro(complete_on):
    """Down come the slices, twice the cube, the evidence and twice the grid; up go the points, the slices, and where they lie."""
    prior = correcting()
    with emulated_card() as card:
        complete_on(CARD, CONTEXTS["parallel"], prior)
        first = card.uploads
        assert card.downloads <= 6
        complete_on(CARD, CONTEXTS["parallel"], prior)
    assert card.uploads - first <= 14 and first > 50, "the networks go up once"
    assert card.downloads <= 12


def test_in_half_precision_the_cpu_gives_nearly_the_same(complete_on, monkeypatch):
    done = complete_on("cpu:0", CONTEXTS["parallel"], correcting())
    monkeypatch.undo()
    rounded = complete(CONTEXTS["parallel"], correcting(), CompletionConfig(device="cpu"))
    assert (rounded.shape != done.shape).sum() < 0.005 * done.shape.sum()
    np.testing.assert_allclose(done.probability, rounded.probability, rtol=0, atol=0.2)


# The kernels


@pytest.mark.parametrize("block", [2**26, 10_000], ids=["at once", "in parts"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_distances_on_a_card_are_those_of_the_cpu(monkeypatch, name, block):
    monkeypatch.setattr(_distance_torch, "_BLOCK", block)
    other = outline(
        SliceLayout("oblique", 9.0, 0.0, (1.0, 0.2, 0.1)), np.zeros(3), np.array([50.0, 44.0, 38.0]), Toy().signed_distance, 0.8
    )
    slices = (*LAYOUTS[name], *other)  # of other shapes and spacings
    ours, theirs = (interpolation_field(slices, device) for device in ("cpu:0", "cpu"))
    assert ours.distances_mm.dtype == np.float32
    np.testing.assert_allclose(ours.distances_mm, theirs.distances_mm, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours.radii_mm, theirs.radii_mm, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(ours.starts, theirs.starts)


@pytest.mark.parametrize("block", [2**26, 2**15], ids=["at once", "in parts"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_field_on_a_card_is_that_of_the_cpu(monkeypatch, name, block):
    monkeypatch.setattr(_interpolate_torch, "_BLOCK", block)
    field = interpolation_field(LAYOUTS[name])
    on_card = _interpolate_torch.FieldOnCard(field, "cpu:0")
    for ours, theirs in zip(on_card.on_grid(GRID), field.on_grid(GRID), strict=True):
        assert ours.dtype == torch.float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-3)
    chosen = np.random.default_rng(0).integers(np.prod(GRID.size_ijk), size=500)
    for ours, theirs in zip(on_card.on_grid(GRID, torch.from_numpy(chosen)), field.on_grid(GRID, chosen), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("block", [2**22, 5_000], ids=["at once", "in parts"])
@pytest.mark.parametrize("size", [None, 4.0, 40.0])
@pytest.mark.parametrize("name", CONTEXTS)
def test_the_evaluation_on_a_card_is_that_of_the_cpu(monkeypatch, name, size, block):
    """Also where a wild correction contradicts the outlines."""
    monkeypatch.setattr(_surface_torch, "_BLOCK", block)
    view = cube_view(CONTEXTS[name].slices, 96.0)
    wild = None if size is None else torch.randn(view.grid.shape_kji, generator=torch.Generator().manual_seed(0)) * size
    logits, distance = evaluate(view, wild, CONTEXTS[name].grid)
    found, apart = evaluate(CubeView(view.grid, view.interpolation, "cpu:0"), wild, CONTEXTS[name].grid)
    assert found.dtype == apart.dtype == np.float32
    differs = ~np.isclose(found, logits, rtol=1e-3, atol=2e-3 * max(size or 1, 1))
    assert differs.mean() < 1e-4  # where rounding decides whether a voxel is looked at finely
    assert ((found > 0) != (logits > 0)).mean() < 2e-5
    assert (~np.isclose(apart, distance, atol=2e-3)).mean() < 1e-3  # or which of two voxels of the cube is the nearest


def test_far_from_the_shape_nothing_is_looked_at_finely():
    view, grid = cube_view(CONTEXTS["parallel"].slices, 96.0), VoxelGrid.box(np.full(3, 90.0), 20.0, 2.0)
    logits, distance = evaluate(view, None, grid)
    found, apart = evaluate(CubeView(view.grid, view.interpolation, "cpu:0"), None, grid)
    assert (logits < 0).all()
    np.testing.assert_allclose(found, logits, atol=1e-3)
    np.testing.assert_allclose(apart, distance, atol=1e-3)


# Failures


def failing(monkeypatch, error: BaseException) -> list[str]:
    """Let predictions fail on whatever is not the CPU; return where they were asked for."""
    asked, predict = [], predicting.predict

    def fail(prior: Prior, view: CubeView, steps: int = 1):
        asked.append(view.device)
        if view.device != "cpu":
            raise error
        return predict(prior, view, steps)

    monkeypatch.setattr(completing, "predict", fail)
    return asked


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "failed (RuntimeError)"),
        (torch.OutOfMemoryError("CUDA out of memory."), "ran out of memory"),
    ],
    ids=["lost", "full"],
)
def test_a_card_that_fails_half_way_costs_nothing_but_time(complete_on, monkeypatch, error, words):
    context, prior = CONTEXTS["parallel"], correcting()
    expected, told = complete_on("cpu", context, prior), []
    asked = failing(monkeypatch, error)
    done = complete_on("cpu:0", context, prior, report=lambda fraction, message: told.append(fraction))
    assert asked == ["cpu:0", "cpu"]
    np.testing.assert_array_equal(done.probability, expected.probability)
    sentence = f"The graphics card {words}; the shape was completed on the CPU."
    assert done.warnings == (*expected.warnings, sentence) and done.device == f"{ON_CARD} {sentence}"
    assert told == sorted(told) and told[-1] == 1.0


def test_a_cancel_on_a_card_is_a_cancel(complete_on):
    def cancel(fraction: float, message: str) -> None:
        if fraction > 0.2:
            raise Cancelled

    with pytest.raises(Cancelled):
        complete_on("cpu:0", CONTEXTS["parallel"], correcting(), report=cancel)


def test_bad_slices_are_told_before_a_card_is_tried(monkeypatch):
    monkeypatch.setattr(completing, "choose_device", lambda *_: pytest.fail("too early"))
    with pytest.raises(InputError):
        complete(Context((), CONTEXTS["parallel"].grid))


def test_a_completion_is_timed_on_a_device(monkeypatch):
    row = timing.seconds_on("cpu:0", 1)
    assert row["grid"] == "97 x 112 x 73" and min(row["occupancy_ms"], row["mesh_ms"], row["prior ms"]) > 0
    failing(monkeypatch, RuntimeError("CUDA error: unknown error"))
    with pytest.raises(RuntimeError, match="failed"):
        timing.seconds_on("cpu:0", 1)


# The setting


def test_the_setting_has_the_choices_of_the_library():
    assert DEVICES == devices.DEVICES


def test_a_device_that_does_not_exist_is_one_sentence():
    with pytest.raises(InputError, match="device") as caught:
        config_from_json({"device": "tpu"})
    assert "cuda:1" in caught.value.message and caught.value.exit_code == 2


@pytest.mark.parametrize("command", [["complete", "s.nrrd"], ["train", "--segmentations", "s"]], ids=["complete", "train"])
def test_the_commands_refuse_a_device_that_does_not_exist(capsys, tmp_path, command):
    with pytest.raises(SystemExit) as caught:
        cli.main([*command, "--out", str(tmp_path / "out.pt"), "--device", "tpu"])
    assert caught.value.code == 2 and "tpu" in capsys.readouterr().err


def test_a_card_that_is_not_there_ends_the_command_with_the_reason(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "_DRIVERS", {})
    source = write_labels(tmp_path / "labels.nrrd", outlined())
    assert cli.main(["complete", str(source), "--out", str(tmp_path / "out"), "--device", "cuda:1"]) == 4
    assert "there is no driver for an NVIDIA card" in capsys.readouterr().err


def test_the_report_and_the_command_say_where_it_was_computed(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(completing, "choose_device", lambda wanted, say: DeviceChoice("cpu:0", "torch", f"Runs on a card, as {wanted}."))
    source = write_labels(tmp_path / "labels.nrrd", outlined())
    paths = complete_file(source, tmp_path / "out", None, 1, CompletionConfig(), lambda fraction, message: None)
    assert json.loads(paths["report_json"].read_text())["device"] == "Runs on a card, as auto."
    assert cli.main(["complete", str(source), "--out", str(tmp_path / "out"), "--device", "cuda:2"]) == 0
    assert "Runs on a card, as cuda:2.\n" in capsys.readouterr().out


def test_a_card_is_tried_while_the_worker_warms_up(monkeypatch):
    """Not with the first outline, which would wait for it."""
    said = []
    monkeypatch.setattr(devices, "_missing", lambda kernel: {})
    monkeypatch.setattr(devices, "_probed", lambda *_: devices.problem("it is a test", "Choose cpu."))
    warm_up(None, lambda fraction, message: said.append((fraction, message)))
    assert said[1][1] == "Trying out the graphics card" and said == sorted(said)


# The probe


def test_the_probe_compares_completions():
    expected, seconds = probe._timed("cpu")
    found, _ = probe._timed("cpu:0")
    assert (expected > 0).sum() > 1000 and seconds > 0
    assert np.abs(found - expected).max() < probe.LARGEST_DIFFERENCE * np.abs(expected).max() / 2


@NEEDS_CARD
@pytest.mark.gpu
@EVERY_WAY
def test_a_card_gives_what_the_cpu_gives(complete_on, name, asked):
    expected, done, again = (complete_on(device, CONTEXTS[name], *ASKED[asked]) for device in ("cpu", "cuda", "cuda"))
    assert (done.shape != expected.shape).sum() <= 1e-3 * expected.shape.sum()
    np.testing.assert_allclose(done.probability, expected.probability, rtol=0, atol=5e-3)  # convolutions round to ten bits
    assert (done.method, done.warnings, done.device) == (expected.method, expected.warnings, ON_CARD)
    np.testing.assert_array_equal(again.probability, done.probability)
