"""The methods that a benchmark compares, by the name that the table shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .scenes import Scene

IXGS_ITERATIONS = 300  # of the 30,000 that were published: those would take hours on two cores
Outcome = tuple[np.ndarray, dict[str, Any]]


def contender(name: str) -> Callable[[Scene], Outcome]:
    """Return what reconstructs a scene; its outcome is the volume (float32 [k, j, i]) and what else the table notes.

    Args:
        name: One of `names()`.

    Raises:
        KeyError: Nobody is called so.
    """
    return _CONTENDERS[name]


def names() -> list[str]:
    """Return all contenders, in the order of the table."""
    return list(_CONTENDERS)


def _rtk(function: str, *arguments: int) -> Callable[[Scene], Outcome]:
    def reconstruct_scene(scene: Scene) -> Outcome:
        from . import baselines_rtk  # ITK is loaded only where it is measured

        return getattr(baselines_rtk, function)(scene, *arguments), {}

    return reconstruct_scene


def _ours(method: str, quality: str) -> Callable[[Scene], Outcome]:
    def reconstruct_scene(scene: Scene) -> Outcome:
        from IntraopReconLib.core.config import ReconstructionConfig
        from IntraopReconLib.core.reconstruct import reconstruct
        from IntraopReconLib.core.reconstruction import silent

        config = ReconstructionConfig(
            method, quality, device="cpu", spacing_mm=float(scene.grid.spacing_mm[0]), region=scene.region, ixgs_iterations=IXGS_ITERATIONS
        )
        result = reconstruct(scene.views, config, silent)
        assert result.grid.shape_kji == scene.grid.shape_kji
        assert np.allclose(result.grid.origin_lps_mm, scene.grid.origin_lps_mm, atol=1e-3)
        notes = {"method": result.method, "candidates": result.candidates, "seconds": result.seconds, "grade": result.grade}
        return result.attenuation_per_mm, notes | {"warnings": result.warnings}

    return reconstruct_scene


_CONTENDERS: dict[str, Callable[[Scene], Outcome]] = {
    "RTK FDK": _rtk("fdk"),
    "RTK CG 15": _rtk("conjugate_gradient", 15),
    "RTK SART 6": _rtk("sart", 6),
    "RTK SART 12": _rtk("sart", 12),
    **{
        f"{method} {quality}": _ours(method, quality)
        for quality in ("preview", "standard", "best")
        for method in ("splat", "voxel", "auto")
    },
    f"ixgs {IXGS_ITERATIONS}": _ours("ixgs", "standard"),
}
