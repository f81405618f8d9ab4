"""Run one contender on one scene in a process of its own, so that its seconds and its memory are its own.

    python -m Testing.benchmarks.measure SCENE.npz "splat standard" ROW.json

The same code runs first, unmeasured, on the scene at a quarter of its resolution: it loads libraries and compiled kernels, as a warm
worker has.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from .scenes import REPOSITORY, Scene, load_scene

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


def thread_environment(threads: int) -> dict[str, str]:
    """Return the environment of a process whose every library uses this many threads and which finds the packages."""
    folders = [REPOSITORY, REPOSITORY / "IntraopRecon", REPOSITORY / "ShapeCompletion"]
    packages = os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")])
    counts = dict.fromkeys(THREAD_VARIABLES, str(threads))
    return {**os.environ, **counts, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": packages}


def measure(scene_path: Path, name: str, threads: int, row_path: Path) -> dict[str, Any]:
    """Measure a contender in a new process.

    Args:
        scene_path: npz as `load_scene` reads it.
        name: The contender's.
        threads: For every library.
        row_path: Where the process leaves its row (JSON).

    Returns:
        The row: figures of `score`, `cpu_s`, `wall_s`, `peak_gb`, `notes`; or `failure` with the last line of what went wrong.
    """
    command = [sys.executable, "-m", "Testing.benchmarks.measure", str(scene_path), name, str(row_path)]
    done = subprocess.run(command, env=thread_environment(threads), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"name": name, "failure": lines[-1]}
    return json.loads(row_path.read_text())


def score(volume: np.ndarray, scene: Scene) -> dict[str, float]:
    """Hold a volume against the truth and the held-out views.

    Args:
        volume: float32 [k, j, i] on the scene's grid.
        scene: With its truth.

    Returns:
        `psnr_3d_db` and `ssim_3d` (peak = the truth's maximum) and `dice` (bone, at the threshold that the truth's own histogram gives),
        all inside `Scene.compared`; `psnr_2d_db`, the mean over held-out views of the exact reprojection's PSNR (peak: the view's
        maximum).
    """
    from IntraopReconLib.core.bone import bone_threshold
    from IntraopReconLib.core.xrays.siddon import line_integrals
    from SparseAnatomyLib.metrics import dice, psnr_db, ssim

    truth, inside = scene.ground_truth_per_mm, scene.compared
    threshold = bone_threshold(truth, inside.astype(np.float32)).value_per_mm
    reprojections = [line_integrals(volume, scene.grid, view.geometry) for view in scene.held_out]
    held_out = [
        psnr_db(image, view.attenuation, float(view.attenuation.max())) for image, view in zip(reprojections, scene.held_out, strict=True)
    ]
    return {
        "psnr_3d_db": psnr_db(volume, truth, scene.peak_per_mm, inside),
        "ssim_3d": ssim(volume, truth, scene.peak_per_mm, inside),
        "dice": dice((volume > threshold) & inside, (truth > threshold) & inside),
        "psnr_2d_db": float(np.mean(held_out)),
    }


def peak_memory_gb() -> float:
    """Return the most memory that this process has held so far."""
    try:  # ru_maxrss counts what the parent held when it forked
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024**2
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**3 if sys.platform == "darwin" else 1024**2)


def cpu_seconds() -> float:
    """Return the processor time of all threads and finished children of this process."""
    return sum(os.times()[:4])


def main(scene_path: Path, name: str, row_path: Path) -> None:
    """Measure in this process and write the row."""
    from .contenders import contender

    scene = load_scene(scene_path)
    run = contender(name)
    run(scene.coarsened(4))
    cpu, wall = cpu_seconds(), time.perf_counter()
    volume, notes = run(scene)
    spent = {"cpu_s": cpu_seconds() - cpu, "wall_s": time.perf_counter() - wall, "peak_gb": peak_memory_gb()}
    row_path.write_text(json.dumps({"name": name, **score(volume, scene), **spent, "notes": notes}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
