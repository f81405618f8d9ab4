"""X-rays from CT: bone-enhanced attenuation, poses of a C-arm, exact line integrals, Poisson noise.

The volume is projected at half the voxel pitch of the ground truth that it is stored with, by a projector that no reconstruction uses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK

from IntraopReconLib.core.config import SimulationConfig
from IntraopReconLib.core.reconstruction import Report, silent
from SparseAnatomyLib.errors import InputError, ResourceError
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid
from SparseAnatomyLib.volumes import read_image

from .siddon import line_integrals

GROUND_TRUTH_SPACING_MM = 1.5
SUBRAYS = 2  # per pixel and axis
AIR_INTENSITY = 60_000  # stored value of an unattenuated pixel; 16 bits leave room for noise above it

WATER_PER_MM = 0.0206  # at 60 keV, the effective energy of a 100 kV beam; NIST XCOM
SOFT_TISSUE_SHARE = 0.05  # what is left of soft tissue, 0.001 per mm
SOFT_BELOW_HU, BONE_ABOVE_HU = 100.0, 270.0
CT_RANGE_HU = (-1000.0, 3071.0)  # air to the end of 12 bits, where metal saturates
LONGEST_EDGE_MM = (20.0, 3000.0)  # of a CT: less or more is another unit
EDGE_MM = 10.0  # over which the imaged region fades out
MARGIN_MM = 4.0  # of the ground truth around the imaged region
MOST_VOXELS = 400_000_000  # of the projected volume, 1.6 GB


def simulate_views(attenuation_per_mm: np.ndarray, grid: VoxelGrid, views: Sequence[XrayView], report: Report = silent) -> np.ndarray:
    """Project a volume exactly into views of one size.

    Each pixel is the mean line integral over 2 × 2 rays; that a real detector averages intensities instead matters at edges of metal only.

    Args:
        attenuation_per_mm: [k, j, i] on `grid`.
        grid: Where the voxels lie.
        views: Sources and detectors.
        report: Told about the progress.

    Returns:
        Attenuation (line integrals, dimensionless), float32 [view, row, column].
    """
    images = []
    for number, view in enumerate(views):
        report(number / len(views), f"Simulating X-ray {number + 1} of {len(views)}")
        images.append(line_integrals(attenuation_per_mm, grid, view, SUBRAYS))
    return np.stack(images)


def random_poses(config: SimulationConfig, center_lps_mm: np.ndarray, rng: np.random.Generator) -> list[XrayView]:
    """Draw C-arm poses around an isocenter, in the order of the orbit.

    The arc is cut into one sector per view, with the orbit angle drawn anywhere in its sector: arbitrary, but never all on one side.
    Images are upright (the patient's head up, within the roll) and not mirrored: as an observer at the source sees the patient.

    Args:
        config: Number of views, ranges and detector.
        center_lps_mm: Isocenter, [3].
        rng: Source of the poses.
    """
    arbitrary = config.orbit == "arbitrary"
    draws = rng.uniform(-1.0, 1.0, (config.views, 7)) if arbitrary else np.zeros((config.views, 7))
    nearest, furthest = config.source_to_isocenter_mm
    poses = []
    for number, (in_sector, tilt, roll, distance, *jitter) in enumerate(draws):
        poses.append(
            carm_view(
                config,
                np.asarray(center_lps_mm, float) + config.jitter_mm * np.array(jitter),
                orbit_rad=math.radians(config.arc_deg) * ((number + 0.5 + in_sector / 2) / config.views - 0.5),
                tilt_rad=math.radians(config.tilt_deg) * tilt,
                roll_rad=math.radians(config.roll_deg) * roll,
                source_to_isocenter_mm=(nearest + furthest) / 2 + (furthest - nearest) / 2 * distance,
            )
        )
    return poses


def carm_view(
    config: SimulationConfig,
    target_lps_mm: np.ndarray,
    orbit_rad: float,
    tilt_rad: float,
    roll_rad: float,
    source_to_isocenter_mm: float,
) -> XrayView:
    """Return the view of a C-arm whose central ray passes through a target.

    Args:
        config: Size of the detector and SDD.
        target_lps_mm: [3].
        orbit_rad: 0 with the source in front of the patient, positive towards the patient's left.
        tilt_rad: Positive with the source towards the head.
        roll_rad: Of the detector in its own plane, clockwise for an observer at the source.
        source_to_isocenter_mm: From the source to the target.
    """
    towards_source = np.array([math.sin(orbit_rad) * math.cos(tilt_rad), -math.cos(orbit_rad) * math.cos(tilt_rad), math.sin(tilt_rad)])
    forward = -towards_source
    down = np.array([0.0, 0.0, -1.0])
    down -= (down @ forward) * forward
    down /= np.linalg.norm(down)
    right = np.cross(down, forward)
    column = math.cos(roll_rad) * right + math.sin(roll_rad) * down
    row = math.cos(roll_rad) * down - math.sin(roll_rad) * right
    pitch = config.detector_mm / config.size_px
    source = target_lps_mm + source_to_isocenter_mm * towards_source
    first_pixel = source + config.source_to_detector_mm * forward - pitch * (config.size_px - 1) / 2 * (column + row)
    return XrayView(source, first_pixel, pitch * column, pitch * row, (config.size_px, config.size_px))


def add_noise(attenuation: np.ndarray, photons_per_pixel: float | None, rng: np.random.Generator) -> np.ndarray:
    """Turn line integrals into stored intensities (Beer–Lambert) with the noise of counted photons.

    Args:
        attenuation: Line integrals, any shape.
        photons_per_pixel: Mean count of an unattenuated pixel; None for no noise.
        rng: Source of the noise.

    Returns:
        uint16 of the same shape; AIR_INTENSITY where nothing attenuates, on average.
    """
    transmission = np.exp(-attenuation.astype(np.float64))
    if photons_per_pixel is not None:
        transmission = rng.poisson(photons_per_pixel * transmission) / photons_per_pixel
    return np.clip(np.rint(AIR_INTENSITY * transmission), 0, np.iinfo(np.uint16).max).astype(np.uint16)


def attenuation_from_hounsfield(hu: np.ndarray) -> np.ndarray:
    """Turn Hounsfield units into bone-enhanced attenuation per mm, float32 of the same shape.

    Water attenuates 0.0206 per mm (60 keV). Below 100 HU 5 % of that is kept (0.001 per mm for soft tissue), above 270 HU all of it
    (cortical bone of 1,300 HU: 0.047 per mm), with a smooth ramp between: what is left of an X-ray when soft tissue is taken away.
    """
    hu = np.clip(np.asarray(hu, np.float32), *CT_RANGE_HU)
    ramp = smoothstep((hu - SOFT_BELOW_HU) / (BONE_ABOVE_HU - SOFT_BELOW_HU))
    share = SOFT_TISSUE_SHARE + (1 - SOFT_TISSUE_SHARE) * ramp
    return (WATER_PER_MM * (1 + hu / 1000) * share).astype(np.float32)


def read_ct(path: Path) -> SimpleITK.Image:
    """Read a CT.

    Returns:
        Hounsfield units, 32-bit float, with spacing, origin and direction in LPS mm.

    Raises:
        InputError: No such file, not readable, not a 3D volume, NaN, or values that are no Hounsfield units.
    """
    path = Path(path)
    choose = "Choose a CT volume saved as NRRD, NIfTI or MetaImage."
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a CT volume.", "Load it in Slicer and save the volume as NRRD.")
    if not path.is_file():
        raise InputError(f"There is no file {path}.", "Check the path of the CT.")
    try:
        image = read_image(path)
    except MemoryError as error:
        raise InputError(f"{path} cannot be read as a volume.", choose) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1 or min(image.GetSize()) < 2:
        size = " × ".join(map(str, image.GetSize()))
        raise InputError(f"{path} is not a 3D volume of single numbers (its size is {size}).", choose)
    image = SimpleITK.Cast(image, SimpleITK.sitkFloat32)
    values = SimpleITK.GetArrayViewFromImage(image)
    if not np.isfinite(values).all():
        raise InputError(f"{path} holds values that are not numbers (NaN or infinity).", "Mend or export the CT again.")
    check_hounsfield(path, float(values.min()), float(values.max()))
    longest = max(size * spacing for size, spacing in zip(image.GetSize(), image.GetSpacing(), strict=True))
    if not LONGEST_EDGE_MM[0] <= longest <= LONGEST_EDGE_MM[1]:
        raise InputError(
            f"{path} is {longest:.3g} mm long, which is no CT of a patient.", "Export the CT again with its spacing in millimeters."
        )
    return image


def check_hounsfield(path: Path, low: float, high: float) -> None:
    """Refuse a volume whose lowest and highest values are not those of a CT with bone; `path` is named.

    Raises:
        InputError: They are no Hounsfield units, or show no bone.
    """
    if low > -1 and high < 1:
        message = f"{path} holds values from {low:.3g} to {high:.3g}, which look like attenuation per mm, not Hounsfield units."
        raise InputError(message, "Choose the CT itself, in Hounsfield units.")
    if low > -50 or high < BONE_ABOVE_HU:
        message = f"{path} holds values from {low:g} to {high:g}, which are no Hounsfield units of a CT with bone."
        raise InputError(message, "Choose a CT in Hounsfield units: air near -1000, water 0, bone above 250.")


def bone_centroid_lps_mm(ct: SimpleITK.Image) -> np.ndarray:
    """Return the centroid of the voxels of bone (above 270 HU), [3]."""
    counts = SimpleITK.GetArrayViewFromImage(ct) > BONE_ABOVE_HU
    profiles = [counts.sum(axis=axes) for axes in ((0, 1), (0, 2), (1, 2))]
    index = [float(profile @ np.arange(len(profile)) / profile.sum()) for profile in profiles]
    return np.array(ct.TransformContinuousIndexToPhysicalPoint(index))


def attenuation_volume(ct: SimpleITK.Image, center_lps_mm: np.ndarray, radius_mm: float | None) -> tuple[np.ndarray, VoxelGrid]:
    """Resample a CT finely and turn it into bone-enhanced attenuation.

    Args:
        ct: Hounsfield units.
        center_lps_mm: Of the region, [3].
        radius_mm: The anatomy fades out over the last 10 mm before this distance; None keeps the whole CT.

    Returns:
        Attenuation per mm, float32 [k, j, i], and its grid: aligned with LPS, twice as fine as the ground truth.

    Raises:
        InputError: The region lies outside the CT.
        ResourceError: The volume would be too large.
    """
    low, high = bounds_lps_mm(ct)
    if radius_mm is None:
        coarse = VoxelGrid.box((low + high) / 2, high - low, GROUND_TRUTH_SPACING_MM)
    else:
        if (center_lps_mm < low).any() or (center_lps_mm > high).any():
            message = f"The center {_point(center_lps_mm)} lies outside the CT, which reaches from {_point(low)} to {_point(high)}."
            raise InputError(message, "Give a center inside the CT, in LPS millimeters.")
        coarse = VoxelGrid.box(center_lps_mm, 2 * (radius_mm + MARGIN_MM), GROUND_TRUTH_SPACING_MM)
    grid = coarse.coarsened(0.5)
    if math.prod(grid.size_ijk) > MOST_VOXELS:
        extent = " × ".join(f"{edge:.0f}" for edge in grid.extent_mm)
        raise ResourceError(f"The region of {extent} mm is too large to simulate.", "Give a smaller radius, or crop the CT.")
    volume = resampled(ct, grid)
    for k, slab in enumerate(volume):  # slab by slab: whole volumes of intermediate values would fill the memory
        slab[:] = attenuation_from_hounsfield(slab)
        if radius_mm is not None:
            slab *= _fade_out(grid, k, center_lps_mm, radius_mm)
    return volume, grid


def resampled(ct: SimpleITK.Image, grid: VoxelGrid) -> np.ndarray:
    """Return the CT on a grid aligned with LPS, float32, air around it; splines hide the voxels of a coarse CT."""
    resample = SimpleITK.ResampleImageFilter()
    resample.SetSize(grid.size_ijk)
    resample.SetOutputSpacing(grid.spacing_mm.tolist())
    resample.SetOutputOrigin(grid.origin_lps_mm.tolist())
    resample.SetInterpolator(SimpleITK.sitkBSpline if max(ct.GetSpacing()) > GROUND_TRUTH_SPACING_MM else SimpleITK.sitkLinear)
    resample.SetDefaultPixelValue(CT_RANGE_HU[0])
    resample.SetOutputPixelType(SimpleITK.sitkFloat32)
    return SimpleITK.GetArrayFromImage(resample.Execute(ct))


def _fade_out(grid: VoxelGrid, k: int, center_lps_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    """Return for slab k 1 inside the ball, 0 outside, fading over its last EDGE_MM, [j, i]; the grid is aligned with LPS."""
    x, y = (grid.origin_lps_mm[axis] + grid.spacing_mm[axis] * np.arange(grid.size_ijk[axis]) - center_lps_mm[axis] for axis in (0, 1))
    z = grid.origin_lps_mm[2] + grid.spacing_mm[2] * k - center_lps_mm[2]
    return smoothstep((radius_mm - np.sqrt(x**2 + y[:, None] ** 2 + z**2)) / EDGE_MM)


def smoothstep(t: np.ndarray) -> np.ndarray:
    """Return 0 below 0, 1 above 1, and between a cubic without kinks."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def bounds_lps_mm(ct: SimpleITK.Image) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest coordinates of the CT's corners, voxel borders included, [3] each."""
    last = np.asarray(ct.GetSize()) - 0.5
    corners = [ct.TransformContinuousIndexToPhysicalPoint(np.where(pick, last, -0.5).tolist()) for pick in np.ndindex(2, 2, 2)]
    return np.min(corners, axis=0), np.max(corners, axis=0)


def _point(lps_mm: np.ndarray) -> str:
    return "(" + ", ".join(f"{x:.0f}" for x in lps_mm) + ")"
