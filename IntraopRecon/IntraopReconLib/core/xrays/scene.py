"""A patient as a C-arm meets one: from head to foot, on an operating table, with the metal of the operation in the beam."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK
from scipy import ndimage

from IntraopReconLib.core.simulation_config import FLAT_PANEL_GLARE, INTENSIFIER_GLARE, LookRanges, RealisticRanges
from SparseAnatomyLib.errors import ResourceError
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

from .exposure import Exposure, draw_exposure, expose
from .instrument_placement import bone_points_lps_mm, random_instruments
from .instruments import table_top
from .looks import Look, aperture, draw_look, seen, with_leaves
from .materials import MaterialVolumes, ideal_bone, material_integrals, materials_from_hounsfield
from .patient import BODY_MARGIN_MM, patient_volumes, without_table
from .simulate import MOST_VOXELS, resampled
from .simulate_beads import SteelBalls, shadows
from .solids import Solids, add_to_volume, nothing, solid_integrals
from .spectrum import transmission, tube_spectrum
from .storage import StoredImage, store

SPACING_MM = 1.0  # of the patient's voxels
FINE_PITCH_MM = 0.6  # at the isocenter; larger pixels are the mean of 2 × 2 rays
MAGNIFICATION = 1.6  # usual, of a C-arm
VOXEL_BLUR = 0.4  # voxels: standard deviation that hides them where pixels are much smaller
SOFT, METAL = 0, 2  # as in `materials.MATERIALS`
EXTENSION_MM = 100.0  # of the patient beyond the ends of the CT, mirrored
TABLE_HALF_MM, TABLE_LENGTH_MM, TABLE_GAP_MM = (230.0, 270.0), 1000.0, 4.0
TABLE_SEEN_MM = 60.0  # around the isocenter, where the back is looked for
LEAD = 1e-5  # of the beam comes through the collimator
COARSE_PX = 8
PHOTONS_PER_MS = 80.0  # behind the anatomy, nominally; for the tags


@dataclass(frozen=True, eq=False)
class Scene:
    """What stands in the beam and what looks at it.

    Attributes:
        patient: Soft tissue, bone and metal.
        instruments: Metal of the operation; it belongs to what a reconstruction should find.
        table: Operating table; attenuates as soft tissue does.
        balls: Beads of a calibration; they belong to nothing but the X-ray. None without.
        exposure: Tube, scatter, blur and noise.
        look: The system.
        looks: What its collimator is drawn from.
    """

    patient: MaterialVolumes
    instruments: Solids
    table: Solids
    balls: SteelBalls | None
    exposure: Exposure
    look: Look
    looks: LookRanges


def draw_scene(
    ct: SimpleITK.Image,
    center_lps_mm: np.ndarray,
    balls: SteelBalls | None,
    with_instruments: bool,
    ranges: RealisticRanges,
    rng: np.random.Generator,
) -> Scene:
    """Put a patient under a C-arm.

    Args:
        ct: Hounsfield units.
        center_lps_mm: Isocenter, [3].
        balls: Beads, or None.
        with_instruments: Whether metal of an operation may lie in the beam.
        ranges: What everything is drawn from.
        rng: Source of it all.

    Raises:
        ResourceError: The CT is too large.
    """
    voxels = np.prod(np.array(ct.GetSize()) * ct.GetSpacing() / SPACING_MM)
    if voxels > MOST_VOXELS / 3:
        raise ResourceError("The CT is too large for realistic X-rays.", "Crop the CT to the anatomy of interest.")
    look = draw_look(ranges.looks, rng)
    glare = INTENSIFIER_GLARE if look.intensifier else FLAT_PANEL_GLARE
    exposure = draw_exposure(replace(ranges.exposures, glare=glare), rng)
    on_table, half_width = rng.random() < ranges.table, rng.uniform(*TABLE_HALF_MM)
    volumes, body = patient_volumes(ct, SPACING_MM)
    table = table_top(_behind(body, volumes.grid, center_lps_mm), half_width, TABLE_LENGTH_MM) if on_table else nothing()
    instruments = nothing()
    if with_instruments:
        points = bone_points_lps_mm(volumes.per_mm[1], volumes.grid, center_lps_mm, ranges.instruments.reach_mm)
        instruments = random_instruments(points, center_lps_mm, ranges.instruments, rng)
    return Scene(_extended(volumes), instruments, table, balls, exposure, look, ranges.looks)


def take_xray(scene: Scene, view: XrayView, label: str, rng: np.random.Generator) -> tuple[StoredImage, np.ndarray]:
    """Take an X-ray of a scene.

    Args:
        scene: Patient, metal and system.
        view: Source and detector.
        label: What the system writes into the image, if it writes.
        rng: Source of the collimator's setting and of the noise.

    Returns:
        The image as it is stored; and the ideal attenuation of bone and metal alone, without beads, float32 [row, column].
    """
    pitch = float(view.pixel_pitch_mm.mean())
    look = with_leaves(scene.look, scene.looks, rng)
    integrals = _without_voxels(material_integrals(scene.patient, view, 2 if pitch / MAGNIFICATION > FINE_PITCH_MM else 1), pitch)
    integrals[METAL] += solid_integrals(scene.instruments, view)
    ideal = ideal_bone(integrals)
    integrals[SOFT] += solid_integrals(scene.table, view)
    if scene.balls is not None:
        integrals[METAL] += shadows(scene.balls, view)
    signal = _collimated(integrals, aperture(look, view.size_px, pitch), pitch, scene.exposure, rng)
    kilovolts, exposure_ms = scene.exposure.kilovolts, scene.exposure.photons / PHOTONS_PER_MS
    stored = store(look, seen(look, signal), f"{label}\n{kilovolts:.0f} kV  {exposure_ms:.0f} ms")
    return replace(stored, kilovolts=kilovolts, exposure_ms=exposure_ms), ideal


def _without_voxels(integrals: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Blur away the borders of voxels, which no X-ray shows; where pixels are not much smaller they show none."""
    sigma_px = VOXEL_BLUR * SPACING_MM * MAGNIFICATION / pixel_mm
    return ndimage.gaussian_filter(integrals, (0, sigma_px, sigma_px)) if sigma_px >= 1 else integrals


def _collimated(integrals: np.ndarray, beam: np.ndarray, pixel_mm: float, exposure: Exposure, rng: np.random.Generator) -> np.ndarray:
    """Expose through a collimator: lead in the beam, from which nothing is scattered. Photons are counted in what it leaves open."""
    spectrum = tube_spectrum(exposure.kilovolts, exposure.copper_mm)
    coarse = np.ascontiguousarray(integrals[:, ::COARSE_PX, ::COARSE_PX])
    behind = integrals.copy()
    behind[METAL] -= np.log(np.maximum(beam, LEAD))
    level_open = _level(transmission(coarse, spectrum)[beam[::COARSE_PX, ::COARSE_PX] > 0.5])
    level_all = _level(transmission(np.ascontiguousarray(behind[:, ::COARSE_PX, ::COARSE_PX]), spectrum))
    return expose(behind, pixel_mm, replace(exposure, photons=exposure.photons * level_all / level_open), rng)


def _level(primary: np.ndarray) -> float:
    """Return the median behind anatomy, as `expose` takes it."""
    shadowed = primary[primary < 0.7]
    return float(np.median(shadowed if shadowed.size else primary))


def bone_truth(ct: SimpleITK.Image, grid: VoxelGrid, scene: Scene) -> np.ndarray:
    """Return what a reconstruction from ideal X-rays should find: attenuation per mm of bone and metal, float32 [k, j, i]."""
    truth = resampled(ct, grid)
    for slab in truth:
        slab[:] = materials_from_hounsfield(slab)[1:].sum(0)
    without_table(truth, grid, scene.patient)
    add_to_volume(truth, grid, scene.instruments)
    return truth


def _behind(body: np.ndarray, grid: VoxelGrid, center_lps_mm: np.ndarray) -> np.ndarray:
    """Return the point of the table behind the isocenter: just behind the back (posterior is +y), [3]."""
    low, high = (np.clip((center_lps_mm + sign * TABLE_SEEN_MM - grid.origin_lps_mm) / grid.spacing_mm, 0, None) for sign in (-1, 1))
    (i0, _, k0), (i1, _, k1) = low.astype(int), high.astype(int) + 1
    rows = np.flatnonzero(body[k0:k1, :, i0:i1].any((0, 2)))
    last = rows[-1] - round(BODY_MARGIN_MM / grid.spacing_mm[1]) if rows.size else body.shape[1]
    y = grid.origin_lps_mm[1] + grid.spacing_mm[1] * last + TABLE_GAP_MM
    return np.array([center_lps_mm[0], y, center_lps_mm[2]])


def _extended(volumes: MaterialVolumes) -> MaterialVolumes:
    """Continue the patient beyond head and foot of the CT, mirrored: an X-ray ends at its collimator and not in a cut through the body.

    Metal is not mirrored: where an implant ends with the CT, no second one starts.
    """
    more = min(round(EXTENSION_MM / volumes.grid.spacing_mm[2]), volumes.per_mm.shape[1] - 1)
    per_mm = np.pad(volumes.per_mm, ((0, 0), (more, more), (0, 0), (0, 0)), mode="reflect")
    per_mm[METAL, :more] = per_mm[METAL, per_mm.shape[1] - more :] = 0
    grid = volumes.grid
    origin = grid.origin_lps_mm - [0, 0, more * grid.spacing_mm[2]]
    return MaterialVolumes(per_mm, replace(grid, size_ijk=per_mm.shape[:0:-1], origin_lps_mm=origin))
