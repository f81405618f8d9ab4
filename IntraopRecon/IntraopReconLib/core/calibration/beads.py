"""Radio-opaque beads in one X-ray image: found, told from what only looks like them, and measured to a fraction of a pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Literal

import numpy as np
from scipy import ndimage

from IntraopReconLib.core.calibration_config import BeadSettings
from SparseAnatomyLib.checks import check_choice

from .bead_pairs import split_pair
from .disc_fit import DiscFit, fit_discs
from .masked import continued

SizeClass = Literal["small", "large"]
DARKEST_SHARE = 1e-3  # of the bright pixels: the floor under the logarithm
OCTAVE_RADIUS_PX = 1.4  # smallest radius that an octave looks for, in its own pixels
SCALES_PER_OCTAVE = 4
SCALE_RATIO = 2 ** (1 / SCALES_PER_OCTAVE)
DISC_RESPONSE = 2 / np.e * (SCALE_RATIO - 1)  # of the scale-normalized Laplacian of Gaussian to a disc of contrast 1 at its own scale
NOISE_SIGMAS = 4.0
SECTORS = 16
INSIDE_RADII = (0.4, 0.6)
OUTSIDE_RADII, OUTSIDE_MARGIN_PX = (1.35, 1.55), 1.0
LOW_SECTOR_PERCENTILE = 25.0
LEAST_USABLE_SECTORS = 0.5
LEAST_EVENNESS = 0.4
SAME_SPOT_RADII = 0.7
START_RADII = (1.0, 0.72)  # of the blob's, which bone beside a bead makes too large
SURE_SCORE = 0.9
NEIGHBOR_STRENGTH = 0.5
NEIGHBOR_CLEARANCE = (1.2, 1.0)  # times its radius, plus pixels
LEAST_CLASS_CONTRAST = 0.5  # of the other size
LEAST_MEMBER_CONTRAST = 0.35  # of the median of its size
SAME_METAL_RATIO = 1.25  # of contrasts, for a bead beyond doubt that is nearer or further away than the others of its size
LEAST_LONE_SCORE = 0.85  # of the only bead of the second size
LEAST_FEW_SMALL_SCORE = 0.95  # of the larger beads' where these are more: specks in bone and drill holes are small, round and few
LEAST_DOUBTFUL_SHARE = 0.65  # of the least score, for a bead of a size that others vouch for
DOUBTFUL_RATIO = 1.1
RADIUS_ERROR_PX = 0.4  # of the smallest beads
LEAST_DOUBTFUL_CONTRAST = 0.6
GROUP_RADII = 1.6


@dataclass(frozen=True)
class Bead:
    """One bead as an image shows it.

    Attributes:
        center_px: (column, row), 0 = center of the first pixel.
        radius_px: Where the contrast has fallen to half of the center's.
        size: `large` if the image shows two sizes of bead and this is one of the larger ones, otherwise `small`.
        score: From 0 to 1: how much of what is there a round spot of even contrast explains.
        contrast: Attenuation above the surroundings, averaged over that radius.
    """

    center_px: tuple[float, float]
    radius_px: float
    size: SizeClass
    score: float
    contrast: float


@dataclass(frozen=True, eq=False)
class _Spots:
    """Round spots, one a row, the strongest first: columns, rows, radii (pixels) and strengths (contrast × evenness)."""

    table: np.ndarray

    @property
    def center_px(self) -> np.ndarray:
        """(column, row), [spot, 2]."""
        return self.table[:, :2]

    @property
    def radius_px(self) -> np.ndarray:
        """Radii, [spot]."""
        return self.table[:, 2]

    @property
    def strength(self) -> np.ndarray:
        """Strengths, [spot]."""
        return self.table[:, 3]


def find_beads(image: np.ndarray, mask: np.ndarray, settings: BeadSettings | None = None) -> list[Bead]:
    """Find the beads of a calibration jig.

    Blobs of every size are proposed (scale space of the Laplacian of Gaussian), kept if their contrast is about the same all around,
    measured by a fit of a soft-edged disc on a curved background, and kept if they share one of at most two sizes. Sizes need not be known.

    Args:
        image: Attenuation (beads high) or intensity (beads low), float [row, column]; values outside the mask do not matter.
        mask: Usable pixels, bool [row, column].
        settings: What counts as a bead.

    Returns:
        Beads, the best score first; empty where there are none.

    Raises:
        ValueError: The image is no plane of numbers, or the mask has another shape.
    """
    settings = settings or BeadSettings()
    check_choice("polarity", settings.polarity, ("auto", "bright", "dark"))
    image, mask = np.asarray(image), np.asarray(mask, dtype=bool)
    if image.ndim != 2 or mask.shape != image.shape:
        raise ValueError(f"image and mask: expected one shape [row, column], got {list(image.shape)} and {list(mask.shape)}.")
    mask = mask & np.isfinite(image)
    if np.count_nonzero(mask) < 2 * SECTORS or np.ptp(image[mask]) == 0:
        return []
    found = [_find_bright(plane, mask, settings) for plane in _planes(image, mask, settings.polarity)]
    return max(found, key=lambda beads: sum(bead.score for bead in beads))


def _planes(image: np.ndarray, mask: np.ndarray, polarity: str) -> list[np.ndarray]:
    """Return the images in which beads may be bright, filled outside the mask; an image without negative values may be intensity."""
    inside = image[mask]
    filled = continued(image.astype(np.float32), mask)
    planes = [filled] if polarity in ("auto", "bright") else []
    if polarity in ("auto", "dark"):
        if inside.min() >= 0:
            floor = np.float32(DARKEST_SHARE * np.percentile(inside, 99))
            planes.append(-np.log(np.maximum(filled, floor)))
        else:
            planes.append(-filled)
    return planes


def _find_bright(image: np.ndarray, mask: np.ndarray, settings: BeadSettings) -> list[Bead]:
    spots = _strongest(image, mask, _proposals(image, mask, settings), settings)
    measured = [_measure(image, mask, spots, index, settings) for index in range(len(spots.table))]
    beads = _without_doubles([bead for bead in measured if bead is not None])
    kept = _of_common_sizes(beads, settings)
    return _refit_together(image, mask, _with_pairs_split(image, mask, kept, beads))


def _proposals(image: np.ndarray, mask: np.ndarray, settings: BeadSettings) -> np.ndarray:
    """Return column, row and radius of every blob, [blob, 3]: maxima over position and scale, octave by octave."""
    largest = max(settings.largest_radius_share * min(image.shape), 2 * settings.least_radius_px)
    step, blobs = 1, []
    while OCTAVE_RADIUS_PX * step <= largest and min(image.shape) > 4 * OCTAVE_RADIUS_PX:
        radii = OCTAVE_RADIUS_PX * SCALE_RATIO ** np.arange(-1, SCALES_PER_OCTAVE + 1)
        response = _responses(image, radii)
        least = np.array([NOISE_SIGMAS * 1.4826 * np.median(np.abs(plane[mask])) for plane in response]).clip(settings.least_contrast / 2)
        scale, row, column = _peaks(response, (response > least[:, None, None]) & mask)
        blobs.append(np.column_stack([column * step + (step - 1) / 2, row * step + (step - 1) / 2, radii[scale] * step]))
        rows, columns = (length // 2 * 2 for length in image.shape)
        image = image[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3))
        mask = mask[:rows:2, :columns:2]
        step *= 2
    return np.concatenate(blobs) if blobs else np.empty((0, 3))


def _peaks(response: np.ndarray, above: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scale, row and column of the local maxima among `above`; the first and last scale belong to the neighboring octaves."""
    above[[0, -1]] = False
    above[:, [0, -1]] = False
    above[:, :, [0, -1]] = False
    scale, row, column = np.nonzero(above)
    value, peak = response[scale, row, column], np.ones(len(scale), dtype=bool)
    for one, other, third in product((-1, 0, 1), repeat=3):
        peak &= value >= response[scale + one, row + other, column + third]
    return scale[peak], row[peak], column[peak]


def _responses(image: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return differences of Gaussians [radius, row, column], about the contrast of a disc of that radius at its center."""
    sigmas = np.append(radii, radii[-1] * SCALE_RATIO) / np.sqrt(2) / np.sqrt(SCALE_RATIO)
    blurred = ndimage.gaussian_filter(image, sigmas[0], truncate=3.0)
    planes = []
    for sigma, wider in pairwise(sigmas):
        next_blurred = ndimage.gaussian_filter(blurred, np.sqrt(wider**2 - sigma**2), truncate=3.0)
        planes.append((blurred - next_blurred) / np.float32(DISC_RESPONSE))
        blurred = next_blurred
    return np.stack(planes)


def _strongest(image: np.ndarray, mask: np.ndarray, blobs: np.ndarray, settings: BeadSettings) -> _Spots:
    """Keep the blobs whose contrast is about the same all around, without those inside stronger ones."""
    contrast, evenness = _contrast_around(image, mask, blobs[:, :2], blobs[:, 2])
    good = (contrast >= settings.least_contrast) & (evenness >= LEAST_EVENNESS)
    table = np.column_stack([blobs, contrast * evenness])[good]
    kept: list[np.ndarray] = []
    for spot in table[np.argsort(-table[:, 3], kind="stable")]:
        if all(np.hypot(*(spot[:2] - other[:2])) > SAME_SPOT_RADII * max(spot[2], other[2]) for other in kept):
            kept.append(spot)
        if len(kept) == settings.most_proposals:
            break
    return _Spots(np.array(kept).reshape(-1, 4))


def _contrast_around(image: np.ndarray, mask: np.ndarray, center_px: np.ndarray, radius_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each spot's contrast (median over sectors) and its evenness: a low sector's share of it, 0 where too much is hidden."""
    if not len(radius_px):
        return np.zeros(0), np.zeros(0)
    angle = 2 * np.pi * np.arange(SECTORS) / SECTORS
    usable = mask.astype(np.float32)
    level, seen = [], np.ones((len(radius_px), SECTORS), dtype=bool)
    for factors, margin in ((INSIDE_RADII, 0.0), (OUTSIDE_RADII, OUTSIDE_MARGIN_PX)):
        rho = radius_px[:, None] * factors + margin
        columns = center_px[:, 0, None, None] + rho[:, :, None] * np.cos(angle)
        rows = center_px[:, 1, None, None] + rho[:, :, None] * np.sin(angle)
        level.append(ndimage.map_coordinates(image, [rows, columns], order=1, mode="nearest").mean(axis=1))
        seen &= (ndimage.map_coordinates(usable, [rows, columns], order=1, mode="constant") > 0.99).all(axis=1)
    contrast, evenness = np.zeros(len(radius_px)), np.zeros(len(radius_px))
    for index in np.flatnonzero(seen.mean(axis=1) >= LEAST_USABLE_SECTORS):
        sectors = (level[0] - level[1])[index, seen[index]]
        contrast[index] = np.median(sectors)
        if contrast[index] > 0:
            evenness[index] = np.clip(np.percentile(sectors, LOW_SECTOR_PERCENTILE) / contrast[index], 0, 1)
    return contrast, evenness


def _measure(image: np.ndarray, mask: np.ndarray, spots: _Spots, index: int, settings: BeadSettings) -> Bead | None:
    """Fit one spot, leaving its neighbors' pixels out; None where it turns out to be no bead."""
    center, radius = spots.center_px[index], spots.radius_px[index]
    distance = np.hypot(*(spots.center_px - center).T)
    near = (distance < 3 * radius + 2 * spots.radius_px) & (spots.strength > NEIGHBOR_STRENGTH * spots.strength[index])
    near[index] = False
    alone = _without_discs(mask, spots.center_px[near], spots.radius_px[near])
    measured = []
    for start in START_RADII:
        fit = fit_discs(image, alone, center[None], start * radius[None])
        if fit is None:
            continue
        (_,), (evenness,) = _contrast_around(image, alone, fit.center_px, fit.radius_px)
        bead = _bead(fit, 0, float(fit.explained * evenness))
        least = max(settings.least_contrast, settings.least_contrast_to_noise * fit.noise)
        if settings.least_radius_px <= bead.radius_px <= settings.largest_radius_share * min(image.shape) and bead.contrast >= least:
            measured.append(bead)
        if bead.score > SURE_SCORE:
            break
    best = max(measured, key=lambda bead: bead.score, default=None)
    return best if best is not None and best.score >= LEAST_DOUBTFUL_SHARE * settings.least_score else None


def _without_discs(mask: np.ndarray, center_px: np.ndarray, radius_px: np.ndarray) -> np.ndarray:
    """Return the mask without discs somewhat larger than these."""
    left = mask.copy() if len(radius_px) else mask
    factor, margin = NEIGHBOR_CLEARANCE
    for (column, row), radius in zip(center_px, factor * radius_px + margin, strict=True):
        top, first = max(int(row - radius), 0), max(int(column - radius), 0)
        part = left[top : int(row + radius) + 2, first : int(column + radius) + 2]
        rows, columns = np.ogrid[: part.shape[0], : part.shape[1]]
        part[np.hypot(rows + top - row, columns + first - column) <= radius] = False
    return left


def _bead(fit: DiscFit, index: int, score: float, size: SizeClass = "small") -> Bead:
    column, row = fit.center_px[index]
    return Bead((float(column), float(row)), float(fit.radius_px[index]), size, score, float(fit.contrast[index]))


def _distance(one: Bead, other: Bead) -> float:
    return float(np.hypot(one.center_px[0] - other.center_px[0], one.center_px[1] - other.center_px[1]))


def _without_doubles(beads: list[Bead]) -> list[Bead]:
    """Return the beads by falling score, without those that two proposals led to."""
    kept: list[Bead] = []
    for bead in sorted(beads, key=lambda bead: -bead.score):
        if all(_distance(bead, other) > SAME_SPOT_RADII * max(bead.radius_px, other.radius_px) for other in kept):
            kept.append(bead)
    return kept


def _of_common_sizes(beads: list[Bead], settings: BeadSettings) -> list[Bead]:
    """Keep the beads of the one or two sizes that explain most, and say which is which."""
    sure = [bead for bead in beads if bead.score >= settings.least_score]
    small, large = _sizes(sure, settings)
    doubtful = [bead for bead in beads if bead.score < settings.least_score]
    large = large + [bead for bead in doubtful if _belongs(bead, large)]
    small = small + [bead for bead in doubtful if _belongs(bead, small)]
    return small + [replace(bead, size="large") for bead in large]


def _sizes(beads: list[Bead], settings: BeadSettings) -> tuple[list[Bead], list[Bead]]:
    """Return the small beads and the large ones; beads of a single size are small."""
    first = _largest_class(beads, settings)
    if not first:
        return [], []
    sizes = [first] if settings.size_classes == 1 else _both_sizes(beads, first, settings)
    small, *large = _shared_out(beads, sizes, settings)
    return small, large[0] if large else []


def _both_sizes(beads: list[Bead], first: list[Bead], settings: BeadSettings) -> list[list[Bead]]:
    """Return the first size and the other one, the small one first, or the first alone where there is no other."""
    radius, least = _median(first, "radius_px"), LEAST_CLASS_CONTRAST * _median(first, "contrast")
    strong = [bead for bead in beads if bead.contrast >= least]
    larger = _largest_class([bead for bead in strong if bead.radius_px >= settings.class_ratio * radius], settings)
    if _is_class(larger):
        return [first, larger]
    smaller = _largest_class([bead for bead in strong if bead.radius_px <= radius / settings.class_ratio], settings)
    alike = _is_class(smaller) and _median(smaller, "score") >= LEAST_FEW_SMALL_SCORE * _median(first, "score")
    return [smaller, first] if alike else [first]


def _shared_out(beads: list[Bead], sizes: list[list[Bead]], settings: BeadSettings) -> list[list[Bead]]:
    """Return the beads of each size once the sizes are known: each bead goes to the size that it resembles most, if it is alike.

    Magnification differs within a jig, so that a near small bead may look nearly as large as a far large one; its contrast does not change.
    """
    shared: list[list[Bead]] = [[] for _ in sizes]
    medians = [(_median(size, "radius_px"), _median(size, "contrast")) for size in sizes]
    for bead in beads:
        unlike = [abs(np.log(bead.radius_px / radius)) + abs(np.log(bead.contrast / contrast)) for radius, contrast in medians]
        nearest = int(np.argmin(unlike))
        radius, contrast = medians[nearest]
        alike = _same_size(bead.radius_px, radius, settings.size_tolerance) and bead.contrast >= LEAST_MEMBER_CONTRAST * contrast
        same_metal = bead.score >= SURE_SCORE and abs(np.log(bead.contrast / contrast)) <= np.log(SAME_METAL_RATIO)
        if alike or (same_metal and _same_size(bead.radius_px, radius, settings.class_ratio)):
            shared[nearest].append(bead)
    return shared


def _same_size(one_px: float, other_px: float, tolerance: float) -> bool:
    return max(one_px, other_px) <= max(tolerance * min(one_px, other_px), min(one_px, other_px) + RADIUS_ERROR_PX)


def _belongs(bead: Bead, beads: list[Bead]) -> bool:
    """Tell whether a doubtful bead has the size and the contrast of a class that is beyond doubt."""
    if len(beads) < 2:
        return False
    alike = _same_size(bead.radius_px, _median(beads, "radius_px"), DOUBTFUL_RATIO)
    return alike and bead.contrast >= LEAST_DOUBTFUL_CONTRAST * _median(beads, "contrast")


def _is_class(beads: list[Bead]) -> bool:
    """Tell whether these are enough: two, or a single one beyond doubt."""
    return len(beads) >= 2 or sum(bead.score for bead in beads) >= LEAST_LONE_SCORE


def _largest_class(beads: list[Bead], settings: BeadSettings) -> list[Bead]:
    """Return the beads of about one radius and no outlying contrast whose scores add up to most."""
    best: list[Bead] = []
    for middle in beads:
        members = [bead for bead in beads if _same_size(bead.radius_px, middle.radius_px, settings.size_tolerance)]
        least = LEAST_MEMBER_CONTRAST * _median(members, "contrast")
        members = [bead for bead in members if bead.contrast >= least]
        if sum(bead.score for bead in members) > sum(bead.score for bead in best):
            best = members
    return best


def _median(beads: list[Bead], attribute: str) -> float:
    return float(np.median([getattr(bead, attribute) for bead in beads]))


def _with_pairs_split(image: np.ndarray, mask: np.ndarray, beads: list[Bead], spots: list[Bead]) -> list[Bead]:
    """Return the beads with two in the place of one, or of a spot of no bead's size, that is a pair as the sizes of the others tell."""
    members = {size: [bead for bead in beads if bead.size == size] for size in ("small", "large")}
    names = [size for size, alike in members.items() if len(alike) >= 2]
    sizes = [(_median(members[size], "radius_px"), _median(members[size], "contrast")) for size in names]
    strong = [spot for spot in spots if sizes and spot.contrast * SAME_METAL_RATIO >= sizes[0][1]]
    split: list[Bead] = []
    for spot in _without_doubles([*beads, *strong]):
        known, pair = spot in beads, None
        if sizes and (not known or spot.score < SURE_SCORE):
            others = [bead for bead in beads if _distance(bead, spot) > bead.radius_px]
            centers = np.array([bead.center_px for bead in others]).reshape(-1, 2)
            alone = _without_discs(mask, centers, np.array([bead.radius_px for bead in others]))
            pair = split_pair(image, alone, np.array(spot.center_px), spot.radius_px, sizes)
        if pair is not None:
            split += [_bead(pair[0], index, spot.score, names[kind]) for index, kind in enumerate(pair[1])]
        elif known:
            split.append(spot)
    return _without_doubles(split)


def _refit_together(image: np.ndarray, mask: np.ndarray, beads: list[Bead]) -> list[Bead]:
    """Measure again the beads that stand in each other's way, each group in one fit; return all by falling score."""
    measured = []
    for group in _groups(beads):
        fit = None
        if len(group) > 1:
            fit = fit_discs(image, mask, np.array([bead.center_px for bead in group]), np.array([bead.radius_px for bead in group]))
        if fit is not None and (fit.contrast > 0).all():
            group = [_bead(fit, index, bead.score, bead.size) for index, bead in enumerate(group)]
        measured += group
    return sorted(measured, key=lambda bead: -bead.score)


def _is_near(one: Bead, other: Bead) -> bool:
    return _distance(one, other) < GROUP_RADII * (one.radius_px + other.radius_px)


def _groups(beads: list[Bead]) -> list[list[Bead]]:
    """Return groups of beads whose windows touch each other's discs, directly or through others."""
    groups: list[list[Bead]] = []
    for bead in beads:
        near = [group for group in groups if any(_is_near(bead, other) for other in group)]
        groups = [group for group in groups if not any(group is other for other in near)]
        groups.append([bead, *(other for group in near for other in group)])
    return groups
