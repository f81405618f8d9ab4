"""How far a volume can be trusted: by the number of X-rays, by what they constrain, and by X-rays that it was not made from."""

from __future__ import annotations

import numpy as np

from .acquisition import Acquisition

POOR_BELOW_VIEWS = 10
POOR_BELOW_COVERAGE = 0.35
POOR_ABOVE_RESIDUAL = 0.35  # of the spread of the withheld images


def graded(acquisition: Acquisition, covered: np.ndarray, withheld_rmse: float) -> tuple[str, list[str]]:
    """Return `good` or `poor`, with the sentences that say why it is poor.

    Args:
        acquisition: What the volume was made from.
        covered: Coverage of the volume, [k, j, i].
        withheld_rmse: Root mean square error of attenuation in the views that were withheld.
    """
    found, count = [], len(acquisition.used)
    if count < POOR_BELOW_VIEWS:
        found.append(f"Only {count} X-rays: details of this volume cannot be trusted. Take {POOR_BELOW_VIEWS} or more, better 25.")
    if float(covered.mean()) < POOR_BELOW_COVERAGE:
        found.append("The X-rays come from too similar directions or see too little of the region. Add views from other sides.")
    withheld = acquisition.withheld
    if len(withheld):
        images, weights = acquisition.attenuation[withheld], acquisition.weights[withheld] > 0
        if withheld_rmse > POOR_ABOVE_RESIDUAL * float(images[weights].std()):
            found.append("The volume does not explain the X-rays that were withheld to judge it. Check the poses and that nobody moved.")
    return "poor" if found else "good", found
