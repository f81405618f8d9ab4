"""Make the bundled sample of ShapeCompletion: `python -m Testing.benchmarks.make_sample_shape DATA`.

The second lumbar vertebra of a CT that no prior was trained on (TotalSegmentator's test data, voxels of 3 mm) as a smooth label volume of
1 mm, and the same on every twelfth sagittal slice only.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import SimpleITK

from ShapeCompletionLib.core.shapes import signed_distance_field
from SparseAnatomyLib.volumes import sitk_image

L2 = 30  # TotalSegmentator's number
EVERY = 12
SAMPLE = Path(__file__).resolve().parents[2] / "Resources" / "SampleShapes"


def main(data: Path) -> None:
    """Write both volumes.

    Args:
        data: Folder with `ct/lumbar_pelvis_3mm_labels.nrrd`.
    """
    labels = SimpleITK.ReadImage(str(data / "ct" / "lumbar_pelvis_3mm_labels.nrrd"))
    signed_mm, grid = signed_distance_field(labels == L2, spacing_mm=1.0)
    whole = signed_mm > 0
    sparse = np.zeros_like(whole)
    shown = np.flatnonzero(whole.any((0, 1)))
    kept = np.arange((shown[0] + shown[-1]) // 2 % EVERY, whole.shape[2], EVERY)  # one of them in the middle
    sparse[:, :, kept] = whole[:, :, kept]
    (SAMPLE / "Truth").mkdir(parents=True, exist_ok=True)
    for mask, path in ((whole, SAMPLE / "Truth" / "vertebra_whole.nrrd"), (sparse, SAMPLE / "vertebra_slices.nrrd")):
        image = SimpleITK.Cast(sitk_image(mask.astype(np.float32), grid), SimpleITK.sitkUInt8)
        SimpleITK.WriteImage(image, str(path), useCompression=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
