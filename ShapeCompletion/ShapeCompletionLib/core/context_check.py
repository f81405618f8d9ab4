"""Slices checked before anything is computed: what is hopeless is refused, what is doubtful is said."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from ShapeCompletionLib.core.sampling import EDGE_WARNING, MIN_MARGIN_MM, Context, Slice
from SparseAnatomyLib.errors import InputError

WIDE_GAP, HOPELESS_GAP = 1.5, 5.0  # distance between neighboring slices relative to the size of the largest section
LARGEST_GAP_MM = 300.0  # no organ spans more between two slices
APART = 2.0  # gaps between slices; pieces farther from each other may be two structures
USUAL_GAP = 0.75  # quantile of the gaps; slices may come in pairs
GAP_OF_CROSSING_SLICES = 0.35  # of the size of what is outlined
MOST_CELLS = 200  # along an edge, when pieces are told apart
MOST_POINTS = 2_000  # of a group, about, when distances are measured
HOLLOW, LINE_PX = 2.0, 2  # a line around a structure encloses more than it covers, and is gone once this much is eroded from its sides
SMALL_PIECE = 0.01  # of what is outlined; less is a slip of the brush


_UNFILLED = (
    "Most outlines are thin lines around something that is not filled, so a hollow shape comes out; if the structure is not hollow, fill "
    "them first."
)


def check_context(context: Context) -> tuple[str, ...]:
    """Refuse slices from which no shape can be made, and return what the clinician should know of the others.

    Returns:
        Sentences, those that came with the context included.

    Raises:
        InputError: No slice, one slice, nothing outlined, a full slice, slices too far apart, or two structures.
    """
    shown = _shown(context)
    warnings = list(context.warnings)
    if any(_touches_edge(plane.mask) for plane in shown):
        warnings.append(EDGE_WARNING)
    if 2 * sum(_is_unfilled(plane.mask) for plane in shown) > len(shown):
        warnings.append(_UNFILLED)
    gaps = _gaps_mm(shown)
    if len(gaps):
        warnings += _check_gaps(gaps, max(_section_size_mm(plane) for plane in shown))
    groups = _groups_apart(shown, float(np.quantile(gaps, USUAL_GAP, method="lower")) if len(gaps) else None)
    if len(groups) > 1:
        warnings.append(_check_groups(groups))
    return tuple(dict.fromkeys(warnings))


def _shown(context: Context) -> list[Slice]:
    """Return the slices that show the structure; refuse too few, and full ones."""
    outline = "Outline the structure on two slices or more."
    if not context.slices:
        raise InputError("There is no slice to complete a shape from.", outline)
    for number, plane in enumerate(context.slices, 1):
        if plane.mask.all():
            raise InputError(
                f"Slice {number} of {len(context.slices)} is filled to all its edges, so it shows no outline.",
                "Erase what is not the structure, or use a volume that is larger than it.",
            )
    shown = [plane for plane in context.slices if plane.mask.any()]
    if not shown:
        raise InputError("All slices are empty.", outline)
    if len(shown) == 1:
        raise InputError("Only one slice shows the structure: it does not tell how far the structure reaches across it.", outline)
    return shown


def _touches_edge(mask: np.ndarray) -> bool:
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def _is_unfilled(mask: np.ndarray) -> bool:
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    box = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], LINE_PX)
    if ndimage.binary_fill_holes(box).sum() < HOLLOW * box.sum():
        return False
    return not ndimage.binary_erosion(box, np.ones((3, 3)), iterations=LINE_PX).any()


def _section_size_mm(plane: Slice) -> float:
    """Return the longer edge of the box around a section."""
    rows, columns = np.nonzero(plane.mask)
    column, row = plane.pixel_spacing_mm
    return max((np.ptp(columns) + 1) * column, (np.ptp(rows) + 1) * row)


def _are_parallel(one: Slice, other: Slice) -> bool:
    return bool(abs(one.normal_lps @ other.normal_lps) > np.cos(np.radians(1)))


def _gaps_mm(shown: list[Slice]) -> np.ndarray:
    """Return the distances between neighbors among parallel slices, [n]."""
    gaps: list[float] = []
    rest = list(shown)
    while rest:
        normal = rest[0].normal_lps
        parallel = [plane for plane in rest if _are_parallel(plane, rest[0])]
        rest = [plane for plane in rest if plane not in parallel]
        gaps += np.diff(np.sort([plane.origin_lps_mm @ normal for plane in parallel])).tolist()
    return np.array([gap for gap in gaps if gap > 0])


def _check_gaps(gaps_mm: np.ndarray, size_mm: float) -> list[str]:
    """Refuse slices that have nothing to do with each other; warn of those that say little about what is between."""
    widest = float(gaps_mm.max())
    if widest > min(LARGEST_GAP_MM, HOPELESS_GAP * size_mm):
        raise InputError(
            f"Two neighboring slices are {widest:.0f} mm apart while the structure in them is {size_mm:.0f} mm wide.",
            "Outline slices between them, and check that the volume's spacing is right.",
        )
    if widest > WIDE_GAP * size_mm:
        return [f"Neighboring slices are up to {widest:.0f} mm apart, more than the structure is wide: what is between is a guess."]
    return []


def _check_groups(groups: list[np.ndarray]) -> str:
    """Refuse outlines that are of two structures beyond doubt; return what to say of others that lie apart, [n, 3] LPS mm each."""
    sizes = [float(np.ptp(points, axis=0).max()) for points in groups]
    trees = [cKDTree(points[:: max(1, len(points) // MOST_POINTS)]) for points in groups]
    for number, tree in enumerate(trees):
        others = [other for other in range(len(trees)) if other != number]
        apart, nearest = min((float(tree.query(trees[other].data)[0].min()), other) for other in others)
        if apart > max(sizes[number], sizes[nearest]):
            raise InputError(
                f"The outlines are of different structures: {apart:.0f} mm lie between them, more than either is large.",
                "Complete one structure at a time, each in a segment or label of its own, or outline a slice between them if they are one.",
            )
    return (
        f"The outlines form {len(groups)} groups far apart from each other: complete different structures one at a time, or outline a "
        "slice between the groups if they are one."
    )


def _groups_apart(shown: list[Slice], gap_mm: float | None) -> list[np.ndarray]:
    """Return groups of outlined pixels with more than about `APART` gaps between them, LPS mm [n, 3] each.

    Pixels are counted in cells as wide as a gap: cells that touch hold what belongs together. Without parallel slices (`gap_mm` None) a
    share of the size takes the place of the gap. Across slices that are all parallel, a gap of twice the usual size, where one is missing,
    keeps nothing apart.
    """
    points = np.concatenate([plane.points_lps_mm()[plane.mask] for plane in shown])
    normal, squeezed = shown[0].normal_lps, points
    if all(_are_parallel(plane, shown[0]) for plane in shown):
        squeezed = points - points @ normal[:, None] * normal / 2
    extent = np.ptp(squeezed, axis=0)
    gap = float(np.median(extent)) * GAP_OF_CROSSING_SLICES if gap_mm is None else gap_mm
    cell = max(gap * APART / 2, MIN_MARGIN_MM, float(extent.max()) / MOST_CELLS)
    index = np.floor((squeezed - squeezed.min(0)) / cell).astype(int)
    taken = np.zeros(index.max(0) + 1, bool)
    taken[tuple(index.T)] = True
    pieces, number = ndimage.label(taken, np.ones((3, 3, 3)))
    if number == 1:
        return [points]
    piece = pieces[tuple(index.T)]
    groups = (points[piece == one] for one in range(1, number + 1))
    return [group for group in groups if len(group) >= SMALL_PIECE * len(points)]
