"""The commands `shape-completion ...`: every flag arrives, and each error has its exit code and its remedy."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK
from small_shape import blob, fake_complete, outlined, write_labels

from ShapeCompletionLib import cli
from ShapeCompletionLib.core import pipeline
from ShapeCompletionLib.core.planes import Plane
from SparseAnatomyLib.errors import Cancelled, InputError, ResourceError

FLAGS = {
    "demo": ["--out"],
    "complete": ["--out", "--prior", "--label", "--steps", "--method", "--spacing", "--device", "--planes"],
    "train": [
        "--segmentations",
        "--out",
        "--label",
        "--title",
        "--licence",
        "--extent",
        "--steps",
        "--inr-steps",
        "--no-mirror",
        "--seed",
        "--patients",
        "--device",
    ],
    "evaluate": ["--segmentations", "--prior", "--spacing", "--label", "--out"],
}


def environment():
    roots = [str(Path(cli.__file__).parents[1]), str(Path(sys.modules["SparseAnatomyLib"].__file__).parents[1])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(roots), "COLUMNS": "200"}


def run(capsys, *arguments):
    """Run a command in this process; return exit code, stdout, stderr."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as exit_:
        code = exit_.code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return code, captured.out, captured.err


@pytest.fixture
def segmentation(tmp_path):
    return write_labels(tmp_path / "segmentation.nrrd", outlined())


@pytest.fixture
def seen(monkeypatch):
    """Stand in for the computation and keep what it was asked."""
    seen = []

    def complete(context, prior, config, report=None):
        seen.append((context, prior, config))
        return fake_complete(context, prior, config, report)

    def load(name):
        seen.append(name)
        return SimpleNamespace(card=SimpleNamespace(name=Path(name).stem, sha256="5" * 64))

    monkeypatch.setattr("ShapeCompletionLib.core.complete.complete", complete)
    monkeypatch.setattr("ShapeCompletionLib.core.prior.load_prior", load)
    monkeypatch.setattr(pipeline, "_priors", {})
    return seen


@pytest.mark.parametrize("command", FLAGS)
def test_every_command_has_help_with_its_flags(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert [flag for flag in FLAGS[command] if not re.search(rf"{flag}\b", out)] == []
    assert "'\"'" not in out  # a default with an apostrophe is shown as a shell would want it


def test_help_lists_the_commands_and_needs_no_torch():
    code = (
        "import sys\nfrom ShapeCompletionLib import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert all(command in done.stdout for command in FLAGS)
    assert done.stdout.endswith("False\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["complete"],
        ["complete", "s.nrrd"],
        ["complete", "s.nrrd", "--out", "o", "--method", "magic"],
        ["complete", "s.nrrd", "--out", "o", "--spacing", "wide"],
        ["complete", "s.nrrd", "--out", "o", "--unknown"],
        ["train", "--out", "p.pt"],
        ["evaluate", "--segmentations", "d"],
    ],
)
def test_arguments_that_make_no_sense_are_bad_input(capsys, arguments):
    code, out, err = run(capsys, *arguments)
    assert code == 2 and out + err


def test_complete_hands_every_flag_on(capsys, tmp_path, segmentation, seen):
    (tmp_path / "mine.pt").write_bytes(b"weights")
    (tmp_path / "mine.json").write_bytes(b"card")
    before = segmentation.read_bytes()
    flags = [
        "--prior",
        tmp_path / "mine.pt",
        "--steps",
        50,
        "--method",
        "inr",
        "--spacing",
        2,
        "--device",
        "cpu",
        "--planes",
        "k:16,k:24,k:3",
    ]
    code, out, err = run(capsys, "complete", segmentation, "--out", tmp_path / "out", *flags)
    assert code == 0 and str(tmp_path / "out" / "shape.nrrd") in out and "Warning: Few slices." in err
    name, (context, prior, config) = seen
    assert name == str(tmp_path / "mine.pt") and prior.card.name == "mine"
    assert (config.method, config.steps, config.spacing_mm, config.device) == ("inr", 50, 2.0, "cpu")
    assert [bool(plane.mask.any()) for plane in context.slices] == [False, True, True]
    assert context.grid.spacing_mm.tolist() == [2, 2, 2]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["planes"] == [str(Plane(0, 3)), "k:16", "k:24"] and report["label"] == 1
    assert report["inputs_sha256"]["prior"] == "5" * 64 and len(report["inputs_sha256"]["segmentation"]) == 64
    assert segmentation.read_bytes() == before
    assert str(tmp_path) not in json.dumps(report)


def test_complete_without_a_prior_and_with_another_label(capsys, tmp_path, seen):
    write_labels(tmp_path / "labels.nii.gz", outlined(), value=3)
    code, _, _ = run(capsys, "complete", tmp_path / "labels.nii.gz", "--out", tmp_path / "out", "--label", 3)
    assert code == 0 and len(seen) == 1 and seen[0][1] is None
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["planes"] is None and report["prior"] is None and "prior" not in report["inputs_sha256"]


def test_interpolation_loads_no_prior(capsys, tmp_path, segmentation, seen):
    code, _, _ = run(capsys, "complete", segmentation, "--out", tmp_path / "out", "--method", "interpolate", "--prior", "vertebra")
    assert code == 0 and len(seen) == 1 and seen[0][1] is None


def test_a_prior_is_loaded_again_only_if_its_file_has_changed(tmp_path, seen):
    path = tmp_path / "mine.pt"
    for text in (b"weights", b"other weights"):
        path.write_bytes(text)
        path.with_suffix(".json").write_bytes(b"card")
        os.utime(path, (1, len(text)))
        first = pipeline.cached_prior(str(path))
        assert pipeline.cached_prior(str(path)) is first
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InputError("The slices are empty.", "Draw."), 2, "Error: The slices are empty.\nDraw.\n"),
        (Cancelled(), 3, "Cancelled.\n"),
        (KeyboardInterrupt(), 3, "Cancelled.\n"),
        (ResourceError("No memory.", "Close something."), 4, "Error: No memory.\nClose something.\n"),
        (MemoryError(), 4, "memory"),
    ],
)
def test_exit_codes(capsys, monkeypatch, tmp_path, segmentation, error, code, words):
    def complete(*_):
        raise error

    monkeypatch.setattr("ShapeCompletionLib.core.complete.complete", complete)
    found, _, err = run(capsys, "complete", segmentation, "--out", tmp_path / "out")
    assert found == code and words in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{tmp}/nothing.nrrd"], "nothing.nrrd"),
        (["{seg}", "--label", "9"], "no label 9; it has 1"),
        (["{seg}", "--label", "0"], "label 0"),
        (["{seg}", "--steps", "0"], "steps"),
        (["{seg}", "--steps", "101"], "steps"),
        (["{seg}", "--spacing", "0"], "spacing"),
        (["{seg}", "--spacing", "nan"], "spacing"),
        (["{seg}", "--planes", "x:3"], "no plane 'x:3'"),
        (["{seg}", "--planes", "k:400"], "no plane k:400"),
        (["{seg}", "--planes", "k:16"], "Only one slice"),
        (["{seg}", "--prior", "unicorn"], "unicorn"),
        (["{seg}", "--prior", "{tmp}/no.pt"], "no.pt"),
        (["{seg}", "--method", "inr"], "needs a prior"),
        (["{tmp}/solid.nrrd"], "outlined everywhere"),
        (["{tmp}/empty.nrrd"], "Nothing is outlined"),
    ],
)
def test_bad_input_is_one_sentence_and_a_remedy(capsys, monkeypatch, tmp_path, segmentation, arguments, words):
    priors = tmp_path / "Priors"
    priors.mkdir()
    for module in ("pipeline", "prior", "prior_card"):
        monkeypatch.setattr(f"ShapeCompletionLib.core.{module}.priors_folder", lambda: priors)
    write_labels(tmp_path / "solid.nrrd", blob())
    write_labels(tmp_path / "empty.nrrd", outlined(()))
    before = segmentation.read_bytes()
    arguments = [argument.format(tmp=tmp_path, seg=segmentation) for argument in arguments]
    code, _, err = run(capsys, "complete", *arguments, "--out", tmp_path / "out")
    assert code == 2 and words in err and len(err.strip().splitlines()) == 2
    assert not (tmp_path / "out").exists() and segmentation.read_bytes() == before


def test_a_result_never_overwrites_its_segmentation(capsys, tmp_path):
    path = write_labels(tmp_path / "shape.nrrd", outlined())
    before = path.read_bytes()
    code, _, err = run(capsys, "complete", path, "--out", tmp_path)
    assert code == 2 and "overwrite" in err and path.read_bytes() == before
    code, _, err = run(capsys, "complete", path, "--out", path)
    assert code == 2 and "is a file" in err and path.read_bytes() == before


def test_names_too_long_for_any_disk_are_bad_input(capsys, tmp_path):
    path, long = write_labels(tmp_path / "labels.nrrd", outlined()), "x" * 5000
    for arguments in (
        (f"{long}.nrrd", "--out", tmp_path / "out"),
        (path, "--out", long),
        (path, "--prior", f"{long}.pt", "--out", tmp_path / "out"),
    ):
        code, _, err = run(capsys, "complete", *arguments)
        assert code == 2 and "Error: " in err and "log file" not in err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["labels.nrrd"]


def test_train_hands_every_flag_on(capsys, monkeypatch, tmp_path):
    seen = []

    def train(shapes, out, info, config, evaluation, report, start, device):
        seen.append((shapes, out, info, config, start))
        assert device.device == "cpu"
        report(0.5, "half way")
        return out

    monkeypatch.setattr("ShapeCompletionLib.core.train_prior.train_prior", train)
    monkeypatch.setattr("ShapeCompletionLib.core.shapes.load_shapes", lambda *arguments: arguments)
    monkeypatch.setattr("ShapeCompletionLib.core.prior.load_prior", lambda name: f"prior {name}")
    flags = [
        "--title",
        "Left hip",
        "--licence",
        "CC0",
        "--extent",
        90,
        "--steps",
        50,
        "--inr-steps",
        10,
        "--seed",
        3,
        "--no-mirror",
        "--folds",
        4,
    ]
    flags += ["--patients", "p[0-9]+", "--trained-on", "Ours.", "--start", "abdomen", "--device", "cpu"]
    code, out, _ = run(capsys, "train", "--segmentations", tmp_path, "--label", 2, "--out", tmp_path / "hip.pt", *flags)
    assert code == 0 and str(tmp_path / "hip.pt") in out and "Runs on the CPU" in out
    [(shapes, path, info, config, start)] = seen
    assert (shapes, path, start) == ((tmp_path, 2, "p[0-9]+"), tmp_path / "hip.pt", "prior abdomen")
    assert (info.title, info.licence, info.trained_on) == ("Left hip", "CC0", "Ours.") and str(tmp_path) not in info.command
    assert (config.extent_mm, config.seed, config.mirror, config.folds) == (90, 3, False, 4)
    assert (config.inr_steps, config.refine_steps) == (10, 50)


@pytest.mark.parametrize("kept", [True, False])
def test_train_keeps_what_a_longer_training_goes_on_from(capsys, monkeypatch, tmp_path, kept):
    def train(shapes, out, *_):
        (out.parent / "hip.training").mkdir()
        (out.parent / "hip.training" / "all.pt").write_bytes(b"checkpoint")
        return out

    monkeypatch.setattr("ShapeCompletionLib.core.train_prior.train_prior", train)
    monkeypatch.setattr("ShapeCompletionLib.core.shapes.load_shapes", lambda *arguments: arguments)
    flags = ["--segmentations", tmp_path, "--out", tmp_path / "hip.pt", "--device", "cpu", *["--keep-checkpoints"] * kept]
    assert run(capsys, "train", *flags)[0] == 0
    assert (tmp_path / "hip.training").is_dir() == kept


def test_evaluate_hands_every_flag_on_and_writes_the_figures(capsys, monkeypatch, tmp_path):
    seen = []

    def evaluate(folder, prior, config, label, report):
        seen.append((folder, prior, config, label))
        report(0.5, "half way")
        return {"prior": "hip", "layouts": {"axial 8 mm": {"dice inr": 0.91, "asd": float("nan")}}}

    monkeypatch.setattr("ShapeCompletionLib.core.evaluate.evaluate_prior", evaluate)
    flags = ["--prior", "hip", "--spacing", 4, 12, "--label", 2, "--steps", 5, "--out", tmp_path / "deep" / "figures.json"]
    code, out, _ = run(capsys, "evaluate", "--segmentations", tmp_path, *flags)
    assert code == 0 and re.search(r"layouts axial 8 mm dice inr +0\.91\n", out)
    [(folder, prior, config, label)] = seen
    assert (folder, prior, label) == (tmp_path, "hip", 2) and (config.spacings_mm, config.steps) == ((4.0, 12.0), 5)
    assert json.loads((tmp_path / "deep" / "figures.json").read_text())["layouts"]["axial 8 mm"] == {"dice inr": 0.91, "asd": None}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--segmentations", "{tmp}/no", "--out", "{tmp}/p.pt"], "no folder"),
        (["train", "--segmentations", "{tmp}", "--out", "{tmp}/p.txt"], ".pt file"),
        (["train", "--segmentations", "{tmp}", "--out", "{tmp}/p.pt", "--steps", "0"], "steps"),
        (["train", "--segmentations", "{tmp}", "--out", "{tmp}/p.pt", "--extent", "0"], "extent"),
        (["train", "--segmentations", "{tmp}", "--out", "{tmp}/p.pt", "--folds", "1"], "folds"),
        (["train", "--segmentations", "{tmp}", "--out", "{tmp}/p.pt", "--patients", "("], "regular expression"),
        (["train", "--segmentations", "{tmp}", "--out", "{tmp}/p.pt"], "no segmentation"),
        (["train", "--segmentations", "{tmp}", "--out", "/dev/null/p.pt"], "/dev/null is a file"),
        (["evaluate", "--segmentations", "{tmp}", "--prior", "{tmp}/p.pt", "--out", "/dev/null/f.json"], "/dev/null is a file"),
        (["evaluate", "--segmentations", "{tmp}", "--prior", "{tmp}/p.pt", "--out", "{tmp}"], "is a folder"),
        (["evaluate", "--segmentations", "{tmp}/no", "--prior", "{tmp}/p.pt"], "no folder"),
        (["evaluate", "--segmentations", "{tmp}", "--prior", "{tmp}/p.pt"], "p.pt"),
        (["evaluate", "--segmentations", "{tmp}", "--prior", "{tmp}/p.pt", "--spacing", "0"], "between slices"),
        (["evaluate", "--segmentations", "{tmp}", "--prior", "{tmp}/p.pt", "--steps", "0"], "steps"),
    ],
)
def test_training_and_measuring_refuse_with_a_remedy(capsys, tmp_path, arguments, words):
    code, _, err = run(capsys, *(argument.format(tmp=tmp_path) for argument in arguments))
    assert code == 2 and words in err and len(err.strip().splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


def test_slices_are_interpolated_for_real(capsys, tmp_path, segmentation):
    """Nothing stands in for anything here: file to file."""
    code, _, err = run(capsys, "complete", segmentation, "--out", tmp_path / "out")
    assert code == 0, err
    whole = write_labels(tmp_path / "whole.nrrd", blob())
    shape = SimpleITK.ReadImage(str(tmp_path / "out" / "shape.nrrd"))
    truth = SimpleITK.GetArrayFromImage(SimpleITK.Resample(SimpleITK.ReadImage(str(whole)), shape, SimpleITK.Transform(), 1, 0)) > 0
    found = SimpleITK.GetArrayFromImage(shape) > 0
    assert 2 * np.sum(truth & found) / (truth.sum() + found.sum()) > 0.85


def test_the_module_is_a_command_with_an_exit_code(tmp_path):
    command = [sys.executable, "-m", "ShapeCompletionLib.cli", "complete", tmp_path / "no.nrrd", "--out", tmp_path / "out"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("Error: ") and not done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a single process on Windows")
def test_control_c_cancels_and_leaves_nothing_half_done(tmp_path, segmentation):
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom ShapeCompletionLib import cli\nfrom ShapeCompletionLib.core import complete\n"
        f"def wait(*_):\n    Path({str(tmp_path / 'mark')!r}).write_text('')\n    time.sleep(600)\n"
        "complete.complete = wait\nsys.exit(cli.main(sys.argv[1:]))"
    )
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background is started deaf to it
    command = [sys.executable, "-c", program, "complete", segmentation, "--out", tmp_path / "out"]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "mark").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 3 and err == "Cancelled.\n"
    assert not (tmp_path / "out").exists()
