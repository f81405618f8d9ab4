"""When not to believe a standardized X-ray: images that no standardizer is made for, and what comes out differently at a second look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import spearmanr

from IntraopReconLib.core.standardization_config import ClassicalSettings, TrustSettings
from IntraopReconLib.core.xrays.radiograph import MeasuredView

from .classical import background, block_means, enlarged
from .standardizer import Standardizer

Use = Literal["standardized", "classical", "original"]
USES: tuple[Use, ...] = ("standardized", "classical", "original")  # the later, the less is made of the image
LEAST_BLOCKS = 10
_NOISE_FILTER = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6  # white noise keeps its standard deviation; slopes vanish
_STANDARD_DEVIATION = 1.4826  # over the median of the absolute values


@dataclass(frozen=True)
class Finding:
    """Why an image is not to be taken as any other.

    Attributes:
        kind: `computed`, `photograph`, `inverted`, `export`, `text`, `dark`, `bright`, `metal`, `bare` or `unsure`.
        use: What is used for the view: what the standardizer made of it, what the classical one made of it, or the image as it is.
        reason: What is the matter, and what was done; goes on after the view's name and a colon.
    """

    kind: str
    use: Use
    reason: str


@dataclass(frozen=True)
class Noise:
    """What the noise of an image tells.

    Attributes:
        relative: Standard deviation over the intensity, median over blocks.
        rises: Rank correlation of noise and intensity over the blocks; NaN where there is too little image.
        darkest: Standard deviation in the smoothest of the darkest blocks, over that in the brightest blocks: anatomy adds to the noise of
            dark blocks, but not to that of the smoothest.
        brightest: Standard deviation in the brightest blocks, in units of the intensity of air.
    """

    relative: float
    rises: float
    darkest: float
    brightest: float

    def falls(self, settings: TrustSettings) -> bool:
        """Whether the noise falls with the intensity, as no counted photons do."""
        rank, ratio = settings.noise_falls
        return self.brightest > settings.least_noise and self.rises < rank and self.darkest > ratio


def find_oddities(view: MeasuredView, settings: TrustSettings, classical: ClassicalSettings) -> list[Finding]:
    """Look for what makes an X-ray unlike those that a standardizer is made for.

    Args:
        view: The image, with what its file tells (`stored`) where it came from one.
        settings: Thresholds.
        classical: How the background is found.

    Returns:
        What was found, the gravest first.
    """
    if view.stored is not None and view.stored.origin.shows_bone_only:
        return [Finding("computed", "original", "its file says that it shows bone only already, so it was left as it is.")]
    noise = noise_of(view.attenuation, view.mask, settings)
    found = [*_photograph_or_inverted(view, noise, settings), *_stored(view, settings)]
    if use_of(found) != "original":  # else nothing that is measured on it as on an X-ray says anything
        found += [*_exposure(view, noise, settings), *_metal(view, settings, classical), *_bare(view, settings, classical)]
    return sorted(found, key=lambda finding: -USES.index(finding.use))


def use_of(findings: Sequence[Finding]) -> Use:
    """Return what is used for a view with these findings: what the gravest asks for."""
    return max((finding.use for finding in findings), key=USES.index, default="standardized")


def background_level(view: MeasuredView, settings: TrustSettings, classical: ClassicalSettings) -> float:
    """Return how much soft tissue lies behind the bones: the background's median attenuation over the object; 0 where there is none."""
    pixel_mm = float(view.geometry.pixel_pitch_mm.mean())
    behind = background(view.attenuation, view.mask, pixel_mm, classical)
    inside = view.mask & (view.attenuation > settings.object_attenuation)
    return float(np.median(behind[inside])) if inside.any() else 0.0


def uncertainty(standardizer: Standardizer, view: MeasuredView, settings: TrustSettings) -> NDArray[np.float32]:
    """Return how differently the image comes out mirrored, and turned a little and enlarged; on coarse pixels, to be quick.

    Args:
        standardizer: Any.
        view: The image.
        settings: How coarse, how far it is turned and enlarged.

    Returns:
        Standard deviation over the three looks, in attenuation, float32 [row, column]; 0 outside the mask.
    """
    pixel_mm = float(view.geometry.pixel_pitch_mm.mean())
    edge = max(1, int(settings.look_mm / pixel_mm))
    image, mask = block_means(view.attenuation, view.mask, edge)
    pixel_mm *= edge
    straight = standardizer.bone(image, mask, pixel_mm)
    mirrored = standardizer.bone(np.fliplr(image).copy(), np.fliplr(mask).copy(), pixel_mm)[:, ::-1]
    angle = np.deg2rad(settings.turn_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / settings.scale
    known = _warped(mask.astype(np.float32), turn) > 0.99
    other = standardizer.bone(np.where(known, _warped(image, turn), 0).astype(np.float32), known, pixel_mm / settings.scale)
    back = np.linalg.inv(turn)
    seen = _warped(known.astype(np.float32), back) > 0.99
    turned = np.where(seen, _warped(other, back), straight)  # what the turn took out of the picture was looked at twice only
    spread = enlarged(np.std([straight, mirrored, turned], axis=0).astype(np.float32), edge, view.mask.shape)
    return np.where(view.mask, spread, 0).astype(np.float32)


def unsure(name: str, bone: np.ndarray, spread: np.ndarray, mask: np.ndarray, settings: TrustSettings) -> list[Finding]:
    """Say so where a learned result changes too much from look to look to be used.

    Args:
        name: Of the standardizer.
        bone: What it made, float [row, column].
        spread: Its uncertainty, float [row, column].
        mask: Usable pixels, bool [row, column].
        settings: Threshold.
    """
    if not mask.any():
        return []
    share = float(np.sqrt(np.mean(spread[mask] ** 2)) / max(np.sqrt(np.mean(bone[mask] ** 2)), 1e-6))
    if share <= settings.unsure_share:
        return []
    reason = (
        f"the {name} standardizer is unsure of it (it comes out differently by {share:.0%} when mirrored or turned), so it was not used."
    )
    return [Finding("unsure", "classical", reason)]


def noise_of(attenuation: np.ndarray, mask: np.ndarray, settings: TrustSettings) -> Noise:
    """Measure the noise of an image in blocks.

    Args:
        attenuation: Line integrals, float [row, column].
        mask: Usable pixels, bool [row, column].
        settings: Size of the blocks and least noise.

    Source: the filter is that of Immerkær, Fast noise variance estimation, Computer Vision and Image Understanding 64(2), 1996.
    """
    edge = settings.noise_block_px
    intensity = np.exp(-np.where(mask, attenuation, 0).astype(np.float32))
    noise = np.abs(ndimage.convolve(intensity, _NOISE_FILTER.astype(np.float32)))
    whole = _blocks(ndimage.binary_erosion(mask, np.ones((3, 3))), edge).all(axis=1)
    if whole.sum() < LEAST_BLOCKS:
        return Noise(0.0, float("nan"), 0.0, 0.0)
    level = _blocks(intensity, edge)[whole].mean(axis=1)
    spread = _STANDARD_DEVIATION * np.median(_blocks(noise, edge)[whole], axis=1)
    dark, bright = np.percentile(level, (20, 80))
    brightest = float(np.median(spread[level >= bright]))
    darkest = float(np.percentile(spread[level <= dark], 10)) / max(brightest, 1e-9)
    rises = float(spearmanr(spread, level).statistic) if np.ptp(spread) > 0 and np.ptp(level) > 0 else float("nan")
    return Noise(float(np.median(spread / level)), rises, darkest, brightest)


def _blocks(image: np.ndarray, edge: int) -> NDArray:
    """Return the pixels of all whole blocks, [block, pixel]."""
    rows, columns = (size // edge for size in image.shape)
    cut = image[: rows * edge, : columns * edge].reshape(rows, edge, columns, edge)
    return cut.transpose(0, 2, 1, 3).reshape(rows * columns, edge * edge)


def _photograph_or_inverted(view: MeasuredView, noise: Noise, settings: TrustSettings) -> list[Finding]:
    steep, mean_rise = _steepness(view, settings)
    if (steep > settings.photograph_share and noise.rises < settings.photograph_noise) or mean_rise > settings.photograph_steepness:
        reason = (
            "it looks like a photograph or a drawing, not an X-ray: it has many hard edges, and its noise is not that of counted photons. "
            "It was left as it is; take it out of the case."
        )
        return [Finding("photograph", "original", reason)]
    if noise.falls(settings) and not is_export(view, settings):
        reason = (
            "its noise falls with its brightness, as in an image whose polarity is reversed or that was processed for viewing. It was left "
            "as it is; export the original image, with its (0028,0004) Photometric Interpretation and (0028,1041) sign."
        )
        return [Finding("inverted", "original", reason)]
    return []


def _steepness(view: MeasuredView, settings: TrustSettings) -> tuple[float, float]:
    """Return the share of steep pixels and the mean rise over the range of the image, at `view_px` rows."""
    edge = max(1, round(max(view.mask.shape) / settings.view_px))
    image, known = block_means(view.attenuation, view.mask, edge)
    inside = ndimage.binary_erosion(known, iterations=6, border_value=1)  # the field's own border is steep
    if not inside.any() or min(inside.shape) < 2:
        return 0.0, 0.0
    span = float(np.subtract(*np.percentile(image[known], (95, 5))))
    smooth = ndimage.gaussian_filter(np.where(known, image, np.mean(image[known])), 1.0)
    rise = np.hypot(*np.gradient(smooth))[inside] / max(span, 1e-6)
    return float(np.mean(rise > settings.steep_share)), float(rise.mean())


def is_export(view: MeasuredView, settings: TrustSettings) -> bool:
    """Whether the image has as few gray values as an export for viewing."""
    facts = view.stored
    if facts is None:
        return False
    return facts.bits <= 8 or (facts.levels <= settings.fine_levels and facts.sampled >= 16 * settings.fine_levels)


def _stored(view: MeasuredView, settings: TrustSettings) -> list[Finding]:
    """What the file tells."""
    found, facts = [], view.stored
    if is_export(view, settings):
        reason = (
            f"it has no more than {settings.fine_levels} gray values, as an export for viewing (8 bits, windowed) has: its attenuation is "
            "distorted, and nothing learned was used on it. Export the original image."
        )
        found.append(Finding("export", "classical", reason))
    if facts is not None and facts.graphics is not None:
        found.append(Finding("text", "standardized", "letters or signs are drawn on it; they were masked."))
    return found


def _exposure(view: MeasuredView, noise: Noise, settings: TrustSettings) -> list[Finding]:
    found, facts = [], view.stored
    black = facts.black_share if facts is not None else 0.0
    saturated = facts.saturated_share if facts is not None else 0.0
    if noise.relative > settings.most_noise or black > settings.black_share:
        what = f"its noise is {noise.relative:.0%} of the signal" if noise.relative > settings.most_noise else f"{black:.0%} of it is black"
        reason = f"it is underexposed ({what}): nothing learned was used on it, and faint bone is lost in it."
        found.append(Finding("dark", "classical", reason))
    if saturated > settings.saturated_share:
        found.append(
            Finding("bright", "standardized", f"it is overexposed: {saturated:.0%} of it is saturated, and what lay there does not count.")
        )
    return found


def _metal(view: MeasuredView, settings: TrustSettings, classical: ClassicalSettings) -> list[Finding]:
    """A large piece of metal: dense, and with an edge that is steeper than that of any bone, even where scatter fills its shadow."""
    pixel_mm = float(view.geometry.pixel_pitch_mm.mean())
    edge = max(1, round(settings.metal_block_mm / pixel_mm))
    above = view.attenuation - background(view.attenuation, view.mask, pixel_mm, classical)
    blocks, known = block_means(above, view.mask, edge)
    if not known.any():
        return []
    highest = float(np.percentile(blocks[known], 99.7))
    blocks, known = np.pad(blocks, 1), np.pad(known, 1)
    for below in settings.metal_below:
        labels, count = ndimage.label((blocks > highest - below) & known)
        cm2 = np.bincount(labels.ravel(), minlength=count + 1) * (edge * pixel_mm) ** 2 / 100
        for number in range(1, count + 1):
            if cm2[number] > settings.metal_cm2 and _is_metal(blocks, known, labels == number, settings):
                reason = (
                    f"a piece of {cm2[number]:.0f} cm² is as dense and as sharp as metal (a prosthesis, a plate, or lead). Nothing learned "
                    "was used on it, so that nothing is made up or taken away."
                )
                return [Finding("metal", "classical", reason)]
    return []


def _is_metal(blocks: np.ndarray, known: np.ndarray, piece: np.ndarray, settings: TrustSettings) -> bool:
    """Whether a dense piece falls off steeply, and lies within the field: at its border, collimators and thick tissue do so too."""
    rim, around = piece & ~ndimage.binary_erosion(piece), ndimage.binary_dilation(piece) & ~piece
    if np.count_nonzero(around & ~known) > settings.metal_at_border * np.count_nonzero(around):
        return False
    ring = ndimage.binary_dilation(piece, iterations=3) & ~ndimage.binary_dilation(piece, iterations=2) & known
    return bool(ring.any()) and float(np.median(blocks[rim]) - np.median(blocks[ring])) > settings.metal_step


def _bare(view: MeasuredView, settings: TrustSettings, classical: ClassicalSettings) -> list[Finding]:
    """Hardly any soft tissue; where air is not known, nobody can tell."""
    facts = view.stored
    if facts is not None and (not facts.air_is_known or is_export(view, settings) or facts.saturated_share > settings.saturated_share):
        return []
    level = background_level(view, settings, classical)
    if level >= settings.least_background:
        return []
    reason = f"there is hardly any soft tissue to remove (the background behind the bones is {level:.2f}): nothing learned was used on it."
    return [Finding("bare", "classical", reason)]


def _warped(image: np.ndarray, matrix: np.ndarray) -> NDArray[np.float32]:
    """Sample an image at `matrix` times the offset from its middle, linearly; 0 beyond."""
    middle = (np.array(image.shape) - 1) / 2
    return ndimage.affine_transform(image.astype(np.float32), matrix, middle - matrix @ middle, order=1)
