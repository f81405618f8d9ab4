"""Above which attenuation a voxel counts as bone: chosen from the data, with the reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from SparseAnatomyLib.checks import check_array, check_positive

# Linear attenuation at the effective energies of 60-120 kVp: water about 0.018-0.024 per mm; dense cortical bone 0.06 at 60 keV.
_SOFT_TISSUE_PER_MM = (0.016, 0.024)
_DENSEST_BONE_PER_MM = 0.06
_FAINTEST_BONE_PER_MM = 0.008
_USUAL_THRESHOLD_PER_MM = 0.015


@dataclass(frozen=True)
class BoneThreshold:
    """A threshold and how it came about.

    Attributes:
        value_per_mm: Bone is where the attenuation exceeds it.
        reason: One sentence for the report.
        warning: A sentence for the user where the threshold cannot do what its name promises; empty otherwise.
    """

    value_per_mm: float
    reason: str
    warning: str = ""


def bone_threshold(attenuation_per_mm: np.ndarray, coverage: np.ndarray, chosen_per_mm: float | None = None) -> BoneThreshold:
    """Choose the bone threshold of a volume.

    Otsu's threshold over the covered voxels parts bone from the rest where soft tissue is suppressed. Where the brighter class turns out
    to be soft tissue (half of it lies within 15 % of a mode that only soft tissue has), the threshold is Otsu's within that class. Values
    above the densest bone (metal) count as that, so that an implant does not pull the threshold up.

    Args:
        attenuation_per_mm: [k, j, i].
        coverage: [k, j, i]; voxels at 0 are unknown and have no say.
        chosen_per_mm: The user's own threshold, taken as it is.

    Source: Otsu, IEEE Transactions on Systems, Man and Cybernetics 9(1), 1979.
    """
    if chosen_per_mm is not None:
        return BoneThreshold(check_positive("chosen_per_mm", chosen_per_mm), "chosen by the user")
    volume = check_array("attenuation_per_mm", attenuation_per_mm, (None, None, None), dtype=np.float32)
    values = volume[check_array("coverage", coverage, volume.shape, dtype=np.float32) > 0]
    np.clip(values, 0, _DENSEST_BONE_PER_MM, out=values)
    if values.size == 0 or values.max() < _FAINTEST_BONE_PER_MM:
        return BoneThreshold(
            _USUAL_THRESHOLD_PER_MM,
            f"the usual {_USUAL_THRESHOLD_PER_MM:g} per mm, as no voxel that the views cover attenuates as much as bone does",
            "Nothing in the volume attenuates as much as bone does, so there may be no bone surface.",
        )
    first = _otsu(values)
    bright = values[values > first]
    mode, share = _mode(bright)
    if share >= 0.5 and _SOFT_TISSUE_PER_MM[0] <= mode <= _SOFT_TISSUE_PER_MM[1] and bright.max() > 1.25 * mode:
        second = max(_otsu(bright), _SOFT_TISSUE_PER_MM[1])
        return BoneThreshold(
            second,
            f"Otsu's threshold among tissue, but above all soft tissue ({_SOFT_TISSUE_PER_MM[1]:g} per mm): the volume shows soft tissue, "
            f"mostly at {mode:.3f} per mm, beside bone",
        )
    warning = ""
    if share >= 0.5:
        warning = (
            f"Much of what is brighter than the bone threshold attenuates evenly ({mode:.3f} per mm), as organs filled with contrast "
            "medium do: the surface shows them together with bone."
        )
    reason = "Otsu's threshold over the voxels that the views cover: halfway between bone and suppressed soft tissue"
    return BoneThreshold(first, reason, warning)


def _otsu(values: np.ndarray) -> float:
    from skimage.filters import threshold_otsu  # slow to import

    return float(threshold_otsu(values))


def _mode(values: np.ndarray) -> tuple[float, float]:
    """Return the most frequent value and the share of values within 15 % of it."""
    counts, edges = np.histogram(values, bins=60, range=(0, _DENSEST_BONE_PER_MM))
    smooth = np.convolve(counts, [0.25, 0.5, 0.25], mode="same")
    smooth[-2:] = 0  # metal was moved there
    mode = float((edges[:-1] + edges[1:])[smooth.argmax()] / 2)
    return mode, float((np.abs(values - mode) <= 0.15 * mode).mean())
