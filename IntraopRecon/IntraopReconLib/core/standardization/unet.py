"""The network of the standardizer: two U-Nets, one over the other, that tell what of an X-ray's attenuation is bone.

Generator and discriminator of Isola, Zhu, Zhou and Efros, Image-to-image translation with conditional adversarial networks (CVPR 2017),
as IXGS (arXiv 2504.14699) uses them, from coarse to fine as in Wang et al., High-resolution image synthesis with conditional GANs
(CVPR 2018). Attenuation goes in and comes out, so that Beer and Lambert still hold.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

PITCH_MM = 1.0  # at the detector: what a pixel of the input is
OVERVIEW_PX = 4  # pixels of the input along a pixel of the overview
COURSE_PX = 16  # pixels of the overview along a block of its course
FOLD = 2
DETAIL_COURSE_PX = 32  # pixels of the input along a block of its course, as the detail is over it
SMOOTH_PX = 8  # pixels of the input between which the gain of detail is linear
OVERVIEW_WIDTHS, DETAIL_WIDTHS = (48, 96, 160, 192), (32, 48, 64, 96)
STRIDE_PX = OVERVIEW_PX * COURSE_PX  # rows and columns must be a multiple of it
TYPICAL_ATTENUATION, ITS_SPREAD, DETAIL_SPREAD = 4.0, 2.0, 0.5  # bring the inputs to about zero and one
LARGEST_LOG_GAIN = 2.0
_BATCH_SHARE = 0.02  # of one batch, in the mean and spread that normalize


class BoneNetwork(nn.Module):
    """Attenuation and mask in, attenuation of bone out.

    The overview, at a quarter of the resolution, knows the body. The other adds what only full resolution shows: a gain by which the detail
    of the X-ray passes, and what is to be added to it. Bone displaces soft tissue, so that an X-ray shows a third of its contrast, which
    the gain is there to give back. Both vary over SMOOTH_PX, so that nothing finer is made up, nor taken away without its surroundings: a
    fracture line that was never seen before passes as the bone does that it is in. What is larger, a network may still take away.

    Args:
        overview_widths: Channels by level; each level halves the resolution.
        detail_widths: The same at full resolution.
    """

    def __init__(self, overview_widths: tuple[int, ...] = OVERVIEW_WIDTHS, detail_widths: tuple[int, ...] = DETAIL_WIDTHS) -> None:
        super().__init__()
        self.widths = [list(overview_widths), list(detail_widths)]
        self.overview, self.detail = _UNet(overview_widths), _UNet(detail_widths, SMOOTH_PX)

    def forward(self, attenuation: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the attenuation of bone, which may be slightly negative, and the gain of detail, each [n, 1, row, column].

        Args:
            attenuation: 0 outside the mask, [n, 1, row, column], both a multiple of STRIDE_PX; pixels of PITCH_MM.
            mask: 1 where the image says something, of the same shape.
        """
        course, guess = self.looked_over(attenuation, mask)
        return self.detail(attenuation, course, guess, mask)

    def looked_over(self, attenuation: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the course of the image, and what the overview takes for bone, at full resolution, [n, 1, row, column]."""
        small, known = block_means(attenuation, mask, OVERVIEW_PX)
        bone = self.seen_from_afar(small, known)
        course = _enlarged(*block_means(attenuation, mask, DETAIL_COURSE_PX), DETAIL_COURSE_PX)
        return course, _enlarged(bone, torch.ones_like(known), OVERVIEW_PX)

    def seen_from_afar(self, small: Tensor, known: Tensor) -> Tensor:
        """Return bone at the overview's resolution; parameters as `forward`, of pixels OVERVIEW_PX times as large."""
        course = _enlarged(*block_means(small, known, COURSE_PX), COURSE_PX)
        return self.overview(small, course, torch.zeros_like(small), known)[0]


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
        return self.layers(torch.cat([attenuation, bone], 1) / TYPICAL_ATTENUATION)


class _UNet(nn.Module):
    """Takes an image, its course, a guess of its bone, and a mask; predicts how much of the detail passes and what is to be added.

    Args:
        widths: Channels by level.
        smooth_px: Pixels between which both are linear; 1 predicts them a pixel.
    """

    def __init__(self, widths: tuple[int, ...], smooth_px: int = 1) -> None:
        super().__init__()
        self.smooth_px = smooth_px
        inputs = (4 * FOLD**2, *widths[:-1])
        self.down = nn.ModuleList(_block(before, width) for before, width in zip(inputs, widths, strict=True))
        self.up = nn.ModuleList(_block(below + width, width) for below, width in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.last = nn.Conv2d(widths[0], 2 * FOLD**2, 1)
        nn.init.zeros_(self.last.weight)  # an untrained network lets the detail pass as it is
        nn.init.zeros_(self.last.bias)

    def forward(self, image: Tensor, course: Tensor, guess: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return bone and the gain of detail; all [n, 1, row, column]."""
        # The detail goes in apart from the course, so that half precision does not round faint fractures away.
        detail = (image - course) * mask
        inputs = [(course - TYPICAL_ATTENUATION) * mask / ITS_SPREAD, detail / DETAIL_SPREAD, guess * mask, mask]
        features = functional.pixel_unshuffle(torch.cat(inputs, 1), FOLD).contiguous(memory_format=torch.channels_last)
        skipped = []
        for block in self.down:
            features = block(functional.avg_pool2d(features, 2) if skipped else features)
            skipped.append(features)
        for block, beside in zip(self.up, skipped[-2::-1], strict=True):
            features = block(torch.cat([functional.interpolate(features, scale_factor=2), beside], 1))
        with torch.autocast(image.device.type, enabled=False):
            maps = functional.pixel_shuffle(self.last(features.float()), FOLD)
            if self.smooth_px > 1:
                maps = _enlarged(*block_means(maps, torch.ones_like(mask), self.smooth_px), self.smooth_px)
                guess = _enlarged(*block_means(guess, torch.ones_like(mask), DETAIL_COURSE_PX), DETAIL_COURSE_PX)
            added, log_gain = maps.split(1, 1)
            gain = log_gain.clamp(max=LARGEST_LOG_GAIN).exp()
            return guess + added + gain * detail, gain


def _block(before: int, width: int) -> nn.Sequential:
    """Return two convolutions; normalized over the batches of the training, so that no pixel of an image changes a far one."""
    layers: list[nn.Module] = []
    for inputs in (before, width):
        layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width, momentum=_BATCH_SHARE), nn.SiLU()]
    return nn.Sequential(*layers)


def block_means(image: Tensor, mask: Tensor, edge: int) -> tuple[Tensor, Tensor]:
    """Return the means of the known pixels over blocks of edge × edge, and which blocks are known by half or more (1 or 0)."""
    known = functional.avg_pool2d(mask, edge)
    means = functional.avg_pool2d(image * mask, edge) / known.clamp(min=1e-3)
    is_known = (known >= 0.5).to(image.dtype)
    return means * is_known, is_known


def _enlarged(blocks: Tensor, known: Tensor, edge: int) -> Tensor:
    """Return blocks as pixels, linear between their centers; unknown ones have no say."""
    total, weight = (functional.interpolate(each, scale_factor=edge, mode="bilinear") for each in (blocks * known, known))
    return total / weight.clamp(min=1e-3)
