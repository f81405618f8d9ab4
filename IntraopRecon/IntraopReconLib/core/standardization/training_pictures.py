"""What a training shows as it goes: X-rays, what the network makes of them, and the ideal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from IntraopReconLib.core.training_config import StandardizerTraining

from .pairs import TrainingView, draw_pair
from .unet import BoneNetwork

SHOWN = 4


def write_picture(path: Path, network: BoneNetwork, views: dict[str, list[TrainingView]], training: StandardizerTraining) -> None:
    """Write a picture of the same few pairs each time: a row each of X-ray, the network's bone, the ideal bone, and the error.

    Args:
        path: A `.png`.
        network: In whatever mode and on whatever device it is.
        views: Of each CT.
        training: How pairs are drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rng = np.random.default_rng(training.seed + 1)
    names, device = list(views), next(network.parameters()).device
    figure = Figure(figsize=(11, 11), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    for row, axes in enumerate(figure.subplots(SHOWN, 4)):
        of_ct = views[names[row % len(names)]]
        pair = draw_pair(of_ct[int(rng.integers(len(of_ct)))], training, rng)
        with torch.no_grad():
            image, mask = (torch.from_numpy(each.astype(np.float32)).to(device)[None, None] for each in (pair.attenuation[1], pair.mask))
            bone = network(image, mask)[0][0, 0].cpu().numpy() * pair.mask
        upper = max(float(np.percentile(pair.bone[1], 99.8)), 0.1)
        shown = [
            (pair.attenuation[1], None, None),
            (bone, 0, upper),
            (pair.bone[1], 0, upper),
            (bone - pair.bone[1], -upper / 2, upper / 2),
        ]
        for axis, (picture, low, high), title in zip(axes, shown, ("X-ray", "network", "ideal", "error"), strict=True):
            axis.imshow(picture, cmap="gray", vmin=low, vmax=high)
            axis.set_title(title if row == 0 else "", fontsize=10)
            axis.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
