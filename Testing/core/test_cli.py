"""The commands as a shell sees them: arguments, exit codes, one sentence and a remedy on stderr."""

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

import numpy as np
import pytest
from calibrate_scenes import make_bead_case, write_bead_xray
from tiny_case import fake_reconstruction, make_tiny_case, write_ball_ct

from IntraopReconLib import cli, demo
from SparseAnatomyLib import commandline
from SparseAnatomyLib.errors import Cancelled, InputError, ResourceError

LIBRARY = Path(cli.__file__).parents[1]
FLAGS = {
    "demo": ["--out", "--case"],
    "simulate": ["--out", "--views", "--seed", "--size", "--realistic", "--beads", "--jig"],
    "calibrate": ["--fiducials", "--intrinsics", "--distortion", "--known-distance"],
    "import-poses": ["--intrinsics", "--coordinate-system", "--unit", "--rows-up", "--first-pixel"],
    "export-poses": ["--out", "--format"],
    "standardize": ["--out", "--method", "--weights"],
    "reconstruct": ["--out", "--quality", "--method", "--device", "--spacing", "--roi", "--seed", "--no-standardize"],
    "train-standardizer": ["--cts", "--pairs", "--out", "--trained-on", "--device"],
    "evaluate": ["--ground-truth"],
    "export": ["--dicom", "--case", "--threshold"],
}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return make_tiny_case(tmp_path_factory.mktemp("cli"))


def environment():
    return {**os.environ, "PYTHONPATH": str(LIBRARY), "COLUMNS": "200"}


def shell(*arguments):
    command = [sys.executable, "-m", "IntraopReconLib.cli", *map(str, arguments)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)


def run(capsys, *arguments):
    """Run a command in this process; return exit code, stdout, stderr."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as exit_:
        code = exit_.code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return code, captured.out, captured.err


@pytest.mark.parametrize("command", FLAGS)
def test_every_command_has_help_with_its_flags(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert [flag for flag in FLAGS[command] if not re.search(rf"{flag}\b", out)] == []
    assert "'\"'" not in out  # a default with an apostrophe is shown as a shell would want it


def test_help_lists_the_commands_and_needs_no_torch():
    code = "import sys\nfrom IntraopReconLib import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert all(command in done.stdout for command in FLAGS)
    assert "0 done, 2 bad input, 3 cancelled, 4 resources, 1 anything else" in " ".join(done.stdout.split())
    assert done.stdout.endswith("False\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["reconstruct"],
        ["reconstruct", "case"],
        ["reconstruct", "case", "--out", "o", "--quality", "superb"],
        ["reconstruct", "case", "--out", "o", "--spacing", "wide"],
        ["reconstruct", "case", "--out", "o", "--unknown"],
        ["demo", "--case", "knee"],
        ["evaluate", "result"],
    ],
)
def test_arguments_that_make_no_sense_are_bad_input(capsys, arguments):
    code, out, err = run(capsys, *arguments)
    assert code == 2 and out + err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (None, 0, ""),
        (InputError("View 3 is black.", "Take it again."), 2, "Error: View 3 is black.\nTake it again.\n"),
        (Cancelled(), 3, "Cancelled.\n"),
        (KeyboardInterrupt(), 3, "Cancelled.\n"),
        (ResourceError("No memory.", "Close something."), 4, "Error: No memory.\nClose something.\n"),
        (MemoryError(), 4, "memory"),
    ],
)
def test_exit_codes(capsys, error, code, words):
    def command():
        if error:
            raise error

    assert commandline.run_command(command) == code
    captured = capsys.readouterr()
    assert words in captured.err and not captured.out


def test_our_own_mistakes_give_one_sentence_and_a_log_file(capsys):
    def command():
        raise KeyError("detail")

    assert commandline.run_command(command) == 1
    err = capsys.readouterr().err
    log = Path(err.strip().rpartition(": ")[2])
    assert "Traceback" not in err and "KeyError: 'detail'" in log.read_text()
    log.unlink()


def test_progress_is_silent_where_there_is_no_terminal(capsys):
    with commandline.progress_bar() as report:
        report(0.5, "half [bold]way")
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_simulate_then_read_the_case(capsys, tmp_path):
    write_ball_ct(tmp_path / "ct.nrrd")
    code, out, _ = run(capsys, "simulate", tmp_path / "ct.nrrd", "--out", tmp_path / "case", "--views", 3, "--size", 40, "--seed", 5)
    assert code == 0 and str(tmp_path / "case") in out
    assert len(json.loads((tmp_path / "case" / "poses.json").read_text())["views"]) == 3


def test_calibrate_says_how_many_of_which_grade_and_names_what_is_wrong(capsys, tmp_path):
    make_bead_case(tmp_path / "knee", angles=((0, 0, 0), (40, 10, 5)))
    saturated = next((tmp_path / "knee" / "xrays").glob("view_001.dcm"))
    write_bead_xray(tmp_path / "knee", 1, intensity=np.full((240, 256), 65_535, np.uint16))
    code, out, err = run(capsys, "calibrate", tmp_path / "knee")
    assert code == 0
    assert "X-rays: 1 green, 0 amber, 1 red (1 without a pose)." in out
    assert str(tmp_path / "knee" / "calibration" / "calibration.html") in out
    assert f"Warning: xrays/{saturated.name} is saturated almost everywhere." in err
    code, out, err = run(capsys, "calibrate", tmp_path / "knee", "--fiducials", tmp_path / "absent.mrk.json")
    assert (code, out) == (2, "") and "absent.mrk.json" in err
    code, _, err = run(capsys, "calibrate", tmp_path / "knee", "--intrinsics", tmp_path / "knee" / "poses.json")
    assert code == 2 and "poses.json" in err


def test_reconstruct_hands_every_flag_on(capsys, monkeypatch, case, tmp_path):
    seen = []

    def reconstruct(views, config, report, checkpoint):
        seen.append(config)
        report(0.5, "half way")
        return fake_reconstruction(views, config)

    monkeypatch.setattr("IntraopReconLib.core.pipeline.reconstruct", reconstruct)
    roi = {"type": "ROI", "coordinateSystem": "LPS", "center": [1, 2, 3], "size": [40, 50, 60], "controlPoints": [{}]}
    (tmp_path / "roi.mrk.json").write_text(json.dumps({"markups": [roi]}))
    flags = ["--quality", "best", "--method", "voxel", "--device", "cpu", "--spacing", "3", "--seed", "7", "--no-standardize", "--roi"]
    code, out, err = run(capsys, "reconstruct", case, "--out", tmp_path / "out", *flags, tmp_path / "roi.mrk.json")
    assert code == 0 and str(tmp_path / "out" / "volume.nrrd") in out and "Warning: Only four X-rays" in err
    [config] = seen
    assert (config.quality, config.method, config.device, config.spacing_mm, config.seed) == ("best", "voxel", "cpu", 3.0, 7)
    assert config.standardize == "off"
    assert config.region.extent_mm == (40, 50, 60)
    code, out, _ = run(capsys, "evaluate", tmp_path / "out", "--ground-truth", case / "ground_truth.nrrd")
    assert code == 0 and "psnr_3d_db" in out and (tmp_path / "out" / "metrics.json").exists()


@pytest.fixture
def fake_demo(monkeypatch, case):
    monkeypatch.setattr("IntraopReconLib.demo.sample_case", lambda name: case)
    monkeypatch.setattr(
        "IntraopReconLib.core.pipeline.reconstruct", lambda views, config, report, folder: fake_reconstruction(views, config)
    )


def test_the_demo_says_where_everything_is(capsys, fake_demo, tmp_path):
    pytest.importorskip("slicer", reason="the scene needs slicer-core")
    from SparseAnatomyLib.host.Snapshot import offscreenProblem

    code, out, err = run(capsys, "demo", "--out", tmp_path / "out")
    assert code == 0
    named = [Path(line.split("  ")[-1].strip()) for line in out.splitlines() if str(tmp_path) in line]
    assert {path.name for path in named} >= {"report.html", "volume.nrrd", "bone.stl", "scene.mrb"} and all(path.exists() for path in named)
    assert "vtk" not in err.lower() and "zip" not in (out + err).lower()
    report = (tmp_path / "out" / "report.html").read_text()
    assert offscreenProblem() in err if offscreenProblem() else report.count("data:image/png") > 5


def test_the_demo_does_without_slicer_and_says_what_to_install(capsys, fake_demo, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, out, err = run(capsys, "demo", "--out", tmp_path / "out")
    assert code == 0 and "pip install" in err and "scene.mrb" not in out
    assert (tmp_path / "out" / "metrics.json").exists()


def test_the_sample_cases_are_found_in_the_repository():
    for name in ("lumbar", "thorax"):
        assert (demo.sample_case(name) / "ground_truth.nrrd").is_file() and (demo.sample_case(name) / "poses.json").is_file()
    with pytest.raises(InputError, match="knee"):
        demo.sample_case("knee")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["reconstruct", "{tmp}/nothing", "--out", "{tmp}/out"], "nothing"),
        (["reconstruct", "{tmp}", "--out", "{tmp}/out"], "poses.json"),
        (["reconstruct", "{case}", "--out", "{case}/xrays"], "xrays"),
        (["reconstruct", "{case}", "--out", "{tmp}/out", "--spacing", "0"], "spacing"),
        (["reconstruct", "{case}", "--out", "{tmp}/out", "--spacing", "nan"], "spacing"),
        (["reconstruct", "{case}", "--out", "{tmp}/out", "--seed", "-1"], "seed"),
        (["reconstruct", "{case}", "--out", "{tmp}/out", "--roi", "{tmp}/no.mrk.json"], "no.mrk.json"),
        (["simulate", "{tmp}/no.nrrd", "--out", "{tmp}/out"], "no.nrrd"),
        (["simulate", "{case}/ground_truth.nrrd", "--out", "{tmp}/out"], "ground_truth.nrrd"),
        (["standardize", "{tmp}/nothing", "--out", "{tmp}/out"], "nothing"),
        (["standardize", "{case}", "--out", "{case}/xrays/out"], "xrays"),
        (["evaluate", "{tmp}", "--ground-truth", "{tmp}/no.nrrd"], "volume.nrrd"),
    ],
)
def test_bad_input_is_one_sentence_and_a_remedy(capsys, case, tmp_path, arguments, words):
    (tmp_path / "file").write_text("not empty")
    code, _, err = run(capsys, *(argument.format(tmp=tmp_path, case=case) for argument in arguments))
    assert code == 2 and words in err and len(err.strip().splitlines()) == 2
    assert not (tmp_path / "out").exists()


def test_the_module_is_a_command_with_an_exit_code(tmp_path):
    done = shell("evaluate", tmp_path / "no", "--ground-truth", tmp_path / "no.nrrd")
    assert done.returncode == 2 and done.stderr.startswith("Error: ") and not done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a single process on Windows")
def test_control_c_cancels_and_leaves_nothing_half_done(tmp_path):
    write_ball_ct(tmp_path / "ct.nrrd")
    command = [sys.executable, "-m", "IntraopReconLib.cli", "simulate", tmp_path / "ct.nrrd", "--out", tmp_path / "case"]
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background is started deaf to it
    process = subprocess.Popen([*command, "--views", "500"], env=environment(), stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".case-*")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 3 and err == "Cancelled.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nrrd"]


def test_idle_threads_sleep_unless_the_user_says_otherwise(monkeypatch):
    for said, expected in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        monkeypatch.setenv("OMP_WAIT_POLICY", said or "")
        if said is None:
            monkeypatch.delenv("OMP_WAIT_POLICY")
        assert commandline.run_command(lambda: None) == 0
        assert os.environ["OMP_WAIT_POLICY"] == expected
