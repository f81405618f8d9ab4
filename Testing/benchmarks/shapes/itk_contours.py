"""ITK's morphological contour interpolation (Slicer's "Fill between slices"), in its own process: beside torch it aborts at exit.

python -m Testing.benchmarks.shapes.itk_contours LABELS.npz RESULT.npz
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from Testing.benchmarks.measure import thread_environment
from Testing.benchmarks.scenes import REPOSITORY

PACKAGE = "itk-morphologicalcontourinterpolation"


def available() -> bool:
    """Tell whether the package is installed (the extra `bench`)."""
    try:
        return bool(version(PACKAGE))
    except PackageNotFoundError:
        return False


def interpolate(labels: Sequence[np.ndarray], axes: Sequence[int], threads: int = 1) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Fill between drawn layers of label volumes.

    Args:
        labels: uint8 [k, j, i], drawn on some layers.
        axes: Across the layers, of the array.
        threads: That ITK may use.

    Returns:
        The filled volumes, bool [k, j, i]; wall and processor seconds of each, [n] and [n].
    """
    with tempfile.TemporaryDirectory() as scratch:
        given, result = Path(scratch) / "labels.npz", Path(scratch) / "result.npz"
        np.savez_compressed(given, axes=np.array(axes), **{f"labels_{n}": one for n, one in enumerate(labels)})
        command = [sys.executable, "-m", "Testing.benchmarks.shapes.itk_contours", str(given), str(result)]
        done = subprocess.run(command, env=thread_environment(threads), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, check=False)
        if not result.exists():  # an abort at exit, after all was written, does no harm
            raise RuntimeError(f"{PACKAGE}: {(done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]}")
        with np.load(result) as arrays:
            return [arrays[f"filled_{n}"] for n in range(len(labels))], arrays["wall_s"], arrays["cpu_s"]


def main(given: Path, result: Path) -> None:
    """Fill all volumes of a file; the first is filled once before, unmeasured."""
    import itk

    with np.load(given) as arrays:
        axes, volumes = arrays["axes"], [arrays[f"labels_{n}"] for n in range(len(arrays["axes"]))]
    filled, seconds = {}, []
    for n, (axis, labels) in enumerate([(axes[0], volumes[0]), *zip(axes, volumes, strict=True)], -1):
        wall, cpu = time.perf_counter(), time.process_time()
        interpolator = itk.MorphologicalContourInterpolator.New(itk.image_from_array(labels))
        interpolator.SetAxis(int(2 - axis))
        interpolator.Update()
        filled[f"filled_{max(n, 0)}"] = itk.array_from_image(interpolator.GetOutput()) > 0
        seconds.append((time.perf_counter() - wall, time.process_time() - cpu))
    wall_s, cpu_s = np.array(seconds[1:]).T
    partial = result.with_suffix(".partial.npz")
    np.savez_compressed(partial, wall_s=wall_s, cpu_s=cpu_s, **filled)
    partial.rename(result)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
