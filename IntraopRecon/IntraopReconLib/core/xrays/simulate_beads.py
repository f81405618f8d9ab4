"""Steel balls in simulated X-rays: where a jig puts them, and their exact shadows.

A ball shadows an ellipse whose middle is not where the center of the ball is projected. It lies further out by about
tan θ / cos² θ · (r / d)² · SDD, for a ball of radius r at distance d and θ off the axis. For 3 mm at 500 mm that is less than 0.01 mm, far
below what a fit of the shadow reaches: no stage corrects it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK
from scipy import ndimage

from IntraopReconLib.core.config import SimulationConfig
from SparseAnatomyLib.checks import check_array, check_positive
from SparseAnatomyLib.errors import InputError
from SparseAnatomyLib.frames import transform_points
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

STEEL_PER_MM = 0.94  # 7.8 g/cm³ × 1.205 cm²/g, iron at 60 keV (as the water of `simulate`); NIST XCOM
SMALL_BEADS, LARGE_BEADS = 12, 4
SMALL_RADIUS_MM, LARGE_RADIUS_MM = 2.0, 3.0
SUBRAYS = 8  # per pixel and axis
ROOM_MM, LEAST_REACH_MM = 4.0, 20.0  # between a ball and the border of the field of view, and what must be left of this
BONE_PER_MM = 0.013  # half of the faintest bone
BONE_CLEARANCE_MM = 1.0
DRAWS = 400
GAP_MM = {"volume": 36.0, "belt": 16.0, "patient": 18.0}  # between centers, less where there is no room
GAP_STEP, LEAST_GAP_MM = 0.8, 2 * LARGE_RADIUS_MM
SHELL_SHARE = 0.55  # of the field of view, that a jig in a volume leaves to the anatomy
BELT_SHARE, BELT_HALF_WIDTH_MM = (0.99, 0.8), 6.0  # half axes from side to side and from front to back, as shares of the field of view
PATCH_DEG = 105.0  # how far around the back beads are stuck on
NEAREST_SKIN_SHARE = 0.3
DEEPEST_SHARE = 0.9  # of the field of view, where the skin lies outside it
SKIN_ABOVE_HU, SKIN_SPACING_MM, SKIN_STEP_MM = -300.0, 3.0, 0.5


@dataclass(frozen=True, eq=False)
class SteelBalls:
    """Balls of steel.

    Attributes:
        center_lps_mm: [B, 3].
        radius_mm: [B].
    """

    center_lps_mm: np.ndarray
    radius_mm: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "center_lps_mm", check_array("center_lps_mm", self.center_lps_mm, (None, 3)))
        object.__setattr__(self, "radius_mm", check_array("radius_mm", self.radius_mm, (len(self),)))
        for radius in self.radius_mm:
            check_positive("radius_mm", float(radius))

    def __len__(self) -> int:
        return len(self.center_lps_mm)

    @property
    def is_large(self) -> np.ndarray:
        """Which balls are of the larger size, bool [B]."""
        return self.radius_mm > (SMALL_RADIUS_MM + LARGE_RADIUS_MM) / 2


def shadows(balls: SteelBalls, view: XrayView) -> np.ndarray:
    """Integrate steel along the rays from the source to the pixels: exact chords, averaged over each pixel's area.

    Args:
        balls: All of them between source and detector.
        view: Source and detector.

    Returns:
        Attenuation (line integrals, dimensionless), float32 [row, column].
    """
    attenuation = np.zeros(view.size_px[::-1])
    for center, radius in zip(balls.center_lps_mm, balls.radius_mm, strict=True):
        rows, columns = _shadow_box(center, radius, view)
        if rows.size and columns.size:
            attenuation[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += STEEL_PER_MM * _chords_mm(
                center, radius, view, rows, columns
            )
    return attenuation.astype(np.float32)


def _shadow_box(center: np.ndarray, radius: float, view: XrayView) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns that a ball's shadow may reach."""
    middle = view.project(center)
    depth, distance = float(view.depth_mm(center)), float(np.linalg.norm(center - view.source_lps_mm))
    reach = radius * view.source_to_detector_mm * distance / (depth - radius) ** 2 / view.pixel_pitch_mm + 1
    low, high = np.floor(middle - reach).astype(int), np.ceil(middle + reach).astype(int)
    columns, rows = (np.arange(max(low[axis], 0), min(high[axis] + 1, view.size_px[axis])) for axis in (0, 1))
    return rows, columns


def _chords_mm(center: np.ndarray, radius: float, view: XrayView, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the mean length of the rays of each pixel within a ball, [row, column]."""
    offset = (np.arange(SUBRAYS) + 0.5) / SUBRAYS - 0.5
    fine_rows, fine_columns = ((pixels[:, None] + offset).ravel() for pixels in (rows, columns))
    pixels = np.stack(np.meshgrid(fine_columns, fine_rows), -1)
    direction = view.pixel_lps_mm(pixels) - view.source_lps_mm
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    to_center = center - view.source_lps_mm
    beside = np.linalg.norm(np.cross(direction, to_center), axis=-1)
    chord = 2 * np.sqrt(np.clip(radius**2 - beside**2, 0, None))
    return chord.reshape(len(rows), SUBRAYS, len(columns), SUBRAYS).mean((1, 3))


def field_radius_mm(config: SimulationConfig) -> float:
    """Return the radius of the ball about the isocenter that every view of random poses sees whole."""
    half = config.detector_mm / 2
    inside_cone = config.source_to_isocenter_mm[0] * half / np.hypot(config.source_to_detector_mm, half)
    return float(inside_cone - np.sqrt(3) * config.jitter_mm)


def place_beads(
    config: SimulationConfig, ct: SimpleITK.Image, center_lps_mm: np.ndarray, bone: tuple[np.ndarray, VoxelGrid], rng: np.random.Generator
) -> SteelBalls:
    """Place the beads of a jig where every view sees them, outside bone, in no order that looks the same from elsewhere.

    Args:
        config: Kind of jig; field of view.
        ct: Hounsfield units; tells where the skin is.
        center_lps_mm: Isocenter, [3].
        bone: Attenuation per mm [k, j, i] and its grid, in which bone is left out; none beyond.
        rng: Source of the layout.

    Returns:
        The balls, the large ones first.

    Raises:
        InputError: There is no room beside the bone.
    """
    reach = field_radius_mm(config) - LARGE_RADIUS_MM - ROOM_MM
    if reach < LEAST_REACH_MM:
        raise InputError("The field of view is too small for beads.", "Give a larger detector, or leave --beads out.")
    draw = _on_skin(ct, center_lps_mm) if config.jig == "patient" else {"volume": _in_volume, "belt": _on_belt}[config.jig]
    radii = np.repeat([LARGE_RADIUS_MM, SMALL_RADIUS_MM], [LARGE_BEADS, SMALL_BEADS])
    gap, placed = GAP_MM[config.jig], np.empty((0, 3))
    while len(placed) < len(radii):
        points = center_lps_mm + draw(reach, rng)
        apart = np.linalg.norm(points[:, None] - placed, axis=-1).min(1, initial=np.inf)
        free = (n for n in np.flatnonzero(apart >= gap) if not _touches_bone(points[n], radii[len(placed)], *bone))
        found = next(free, None)
        if found is not None:
            placed = np.concatenate([placed, points[found][None]])
        elif gap < LEAST_GAP_MM:
            raise InputError("There is no room for beads beside the bone.", "Choose another --jig or another --center.")
        else:
            gap *= GAP_STEP
    return SteelBalls(placed, radii)


def _directions(rng: np.random.Generator) -> np.ndarray:
    """Return unit vectors, [DRAWS, 3]."""
    vectors = rng.normal(size=(DRAWS, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _in_volume(reach_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Return places around the anatomy, on all sides and at all depths, about the isocenter, [DRAWS, 3]."""
    return reach_mm * rng.uniform(SHELL_SHARE**3, 1, (DRAWS, 1)) ** (1 / 3) * _directions(rng)


def _on_belt(reach_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Return places on a belt around the patient's long axis, about the isocenter, [DRAWS, 3]."""
    angle, height = rng.uniform(0, 2 * np.pi, DRAWS), rng.uniform(-1, 1, DRAWS) * min(BELT_HALF_WIDTH_MM, reach_mm / 4)
    across, along = BELT_SHARE
    return np.stack([across * reach_mm * np.cos(angle), along * reach_mm * np.sin(angle), height], 1)


def _on_skin(ct: SimpleITK.Image, center_lps_mm: np.ndarray) -> Callable[[float, np.random.Generator], np.ndarray]:
    """Return what draws places on the skin of back and flanks, or at the border of the field of view where the skin lies outside it."""
    body, ijk_from_lps = _body(ct)

    def draw(reach_mm: float, rng: np.random.Generator) -> np.ndarray:
        directions = _directions(rng)
        directions = directions[directions[:, 1] > np.cos(np.deg2rad(PATCH_DEG))]  # posterior is +y
        distance = np.arange(0.0, reach_mm, SKIN_STEP_MM)
        points = center_lps_mm + distance[:, None] * directions[:, None]  # [direction, step, 3]
        kji = np.moveaxis(transform_points(ijk_from_lps, points)[..., ::-1], -1, 0)
        inside = ndimage.map_coordinates(body, kji, order=0, mode="constant") > 0
        skin = distance[-1] - distance[inside[:, ::-1].argmax(1)]
        border = rng.uniform(DEEPEST_SHARE, 1.0, len(directions)) * reach_mm
        place = np.where(inside[:, -1], border, np.minimum(skin + LARGE_RADIUS_MM, reach_mm))
        near = inside.any(1) & (skin >= NEAREST_SKIN_SHARE * reach_mm)
        return (place[:, None] * directions)[near]

    return draw


def _body(ct: SimpleITK.Image) -> tuple[np.ndarray, np.ndarray]:
    """Return the patient without the table, uint8 [k, j, i], coarse, and the matrix [4, 4] from LPS mm to its indices (i, j, k)."""
    factors = [max(1, round(SKIN_SPACING_MM / spacing)) for spacing in ct.GetSpacing()]
    coarse = SimpleITK.Shrink(ct, factors)
    label = SimpleITK.RelabelComponent(SimpleITK.ConnectedComponent(coarse > SKIN_ABOVE_HU), sortByObjectSize=True)
    lps_from_ijk = np.eye(4)
    lps_from_ijk[:3, :3] = np.reshape(coarse.GetDirection(), (3, 3)) * coarse.GetSpacing()
    lps_from_ijk[:3, 3] = coarse.GetOrigin()
    return (SimpleITK.GetArrayFromImage(label) == 1).astype(np.uint8), np.linalg.inv(lps_from_ijk)


def _touches_bone(center: np.ndarray, radius: float, attenuation_per_mm: np.ndarray, grid: VoxelGrid) -> bool:
    """Tell whether bone lies within a ball or just around it; the grid is aligned with LPS."""
    around = radius + BONE_CLEARANCE_MM
    low = np.ceil((center - around - grid.origin_lps_mm) / grid.spacing_mm).astype(int).clip(0)
    high = np.floor((center + around - grid.origin_lps_mm) / grid.spacing_mm).astype(int) + 1
    part = attenuation_per_mm[tuple(slice(low[axis], max(high[axis], 0)) for axis in (2, 1, 0))]
    return bool(part.size) and float(part.max()) > BONE_PER_MM
