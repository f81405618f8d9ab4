"""The network of the standardizer: a U-Net that tells what of an X-ray's attenuation is bone.

Generator and discriminator of Isola, Zhu, Zhou and Efros, Image-to-image translation with conditional adversarial networks (CVPR 2017),
as IXGS (arXiv 2504.14699) uses them; smaller, on pixels folded 2 × 2 into channels, and with attenuation in and out, so that Beer and
Lambert still hold.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (24, 48, 96, 160, 224, 256)
FOLD = 2
STRIDE_PX = FOLD * 2 ** (len(WIDTHS) - 1)  # rows and columns must be a multiple of it
COURSE_PX = 16
ATTENUATION_SCALE = 4.0  # brings attenuation to about one


class BoneNetwork(nn.Module):
    """Attenuation and mask in, attenuation of bone out.

    The image is split into its course over centimeters and its detail, so that half precision does not round faint fractures away. The
    detail passes; what the course hides of bone, and what of the detail is not bone, is predicted.

    Args:
        widths: Channels by level; each level halves the resolution.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        inputs = (3 * FOLD**2, *widths[:-1])
        self.down = nn.ModuleList(_Block(before, width) for before, width in zip(inputs, widths, strict=True))
        self.up = nn.ModuleList(_Block(below + width, width) for below, width in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.last = nn.Conv2d(widths[0], FOLD**2, 1)
        nn.init.zeros_(self.last.weight)  # an untrained network lets the detail pass as it is
        nn.init.zeros_(self.last.bias)

    def forward(self, attenuation: Tensor, mask: Tensor) -> Tensor:
        """Return the attenuation of bone, which may be slightly negative, [n, 1, row, column].

        Args:
            attenuation: 0 outside the mask, [n, 1, row, column], both a multiple of STRIDE_PX.
            mask: 1 where the image says something, of the same shape.
        """
        course = _course(attenuation, mask)
        detail = (attenuation - course) * mask
        features = functional.pixel_unshuffle(torch.cat([course * mask / ATTENUATION_SCALE, detail, mask], 1), FOLD)
        features = features.contiguous(memory_format=torch.channels_last)
        skipped = []
        for block in self.down:
            features = block(functional.avg_pool2d(features, 2) if skipped else features)
            skipped.append(features)
        for block, beside in zip(self.up, skipped[-2::-1], strict=True):
            features = block(torch.cat([functional.interpolate(features, scale_factor=2), beside], 1))
        with torch.autocast(attenuation.device.type, enabled=False):
            return detail + functional.pixel_shuffle(self.last(features.float()), FOLD)


class PatchDiscriminator(nn.Module):
    """Tells, patch by patch, whether bone that is said to belong to an X-ray is ideal or a generator's."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((2, *widths[:-1]), widths, strict=True):
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, attenuation: Tensor, bone: Tensor) -> Tensor:
        """Return an opinion a patch, about 1 for ideal and 0 for generated, [n, 1, row / 8, column / 8]."""
        return self.layers(torch.cat([attenuation, bone], 1) / ATTENUATION_SCALE)


def _course(attenuation: Tensor, mask: Tensor) -> Tensor:
    """Return the means over blocks of pixels within the mask, linear between them, of the image's shape."""
    sums, counts = (functional.avg_pool2d(each, COURSE_PX) for each in (attenuation, mask))
    return functional.interpolate(sums / counts.clamp(min=1e-3), scale_factor=COURSE_PX, mode="bilinear")


class _Block(nn.Module):
    """Two convolutions; between them each pixel is normalized over its channels.

    Normalization over the image, usual in such networks, would let a screw in one corner change what is told of the others.
    """

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(before, width, 3, padding=1), nn.LayerNorm(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        by_pixel = self.norm(self.first(features).permute(0, 2, 3, 1))
        return functional.silu(self.second(functional.silu(by_pixel).permute(0, 3, 1, 2)))
