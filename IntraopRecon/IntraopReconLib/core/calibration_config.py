"""Every setting of the calibration and its default; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Polarity = Literal["auto", "bright", "dark"]
CoordinateSystem = Literal["LPS", "RAS"]
LengthUnit = Literal["mm", "cm", "m"]
PoseFormat = Literal["matrices", "matrices-json", "rtk", "slicer", "mayacam", "mayacam1"]


@dataclass(frozen=True)
class MatchSettings:
    """How known beads are found among the points of one X-ray.

    Attributes:
        prior_deg: Largest angle between the pose and its prior.
        depth_range: Of the beads' centroid, as shares of the source-detector distance.
        search_share: Distance within which a first guess explains a bead, as a share of the image's half diagonal.
        inlier_px: Distance within which the refined pose explains a bead; four times the noise of a coordinate.
        least_beads: A pose that explains fewer is none.
        least_share: A pose that explains a smaller share of the beads, or of the points where they are fewer, is none.
        hypotheses: Poses that are refined.
        missed_chance: Accepted chance that no triplet of points tried belongs to the beads.
        most_triplets: Triplets of points that are tried at most.
        rival_cost: Another pose is a rival if it costs at most this more, in squares of `inlier_px`; 1 is one bead.
        rival_deg: Poses that differ less are the same.
    """

    prior_deg: float = 25.0
    depth_range: tuple[float, float] = (0.2, 0.98)
    search_share: float = 0.016
    inlier_px: float = 2.0
    least_beads: int = 6
    least_share: float = 0.5
    hypotheses: int = 12
    missed_chance: float = 1e-3
    most_triplets: int = 400
    rival_cost: float = 1.25
    rival_deg: float = 2.0


@dataclass(frozen=True)
class BeadSettings:
    """What counts as a bead in an X-ray image.

    Attributes:
        polarity: `bright` in an attenuation image, `dark` in an image of intensities (whose logarithm is taken); `auto` tries both.
        least_radius_px: Smaller dots are noise or too small to measure.
        largest_radius_share: Of the image's shorter side.
        least_contrast: Attenuation above the surroundings; a steel ball of 2 mm reaches 0.5 even where scatter fills its shadow.
        least_contrast_to_noise: Contrast over the noise that is left around the bead.
        least_score: Of `Bead.score`.
        size_classes: How many sizes of bead a jig may have, 1 or 2.
        size_tolerance: Largest ratio of a bead's radius to the median of its class, either way: magnification differs within a jig.
        class_ratio: Least ratio between the radii of large and small beads.
        most_proposals: Only so many of the strongest round spots are measured.
    """

    polarity: Polarity = "auto"
    least_radius_px: float = 1.2
    largest_radius_share: float = 0.035
    least_contrast: float = 0.2
    least_contrast_to_noise: float = 4.0
    least_score: float = 0.6
    size_classes: int = 2
    size_tolerance: float = 1.2
    class_ratio: float = 1.35
    most_proposals: int = 150


@dataclass(frozen=True)
class BundleSettings:
    """What is adjusted over all views at once, and how firmly the first values hold.

    Attributes:
        noise_px: Standard deviation of a coordinate of a point, which weighs the points against what follows.
        focal_tolerance: Relative standard deviation of the source-detector distance in pixels; 0 keeps it.
        principal_point_tolerance_px: Standard deviation of each coordinate; 0 keeps it.
        radial_tolerance: Standard deviation of the radial distortion at a corner of the image; 0 keeps it.
        bead_tolerance_mm: Standard deviation of a coordinate of a bead, as the jig was made; 0 keeps them, infinity lets them go.
        loss_scale: Residuals of this many standard deviations begin to lose weight (Cauchy's loss).
        iterations: At most.
    """

    noise_px: float = 0.5
    focal_tolerance: float = 0.0
    principal_point_tolerance_px: float = 0.0
    radial_tolerance: float = 0.0
    bead_tolerance_mm: float = 0.0
    loss_scale: float = 4.0
    iterations: int = 100

    @property
    def adjusts_all(self) -> bool:
        """Whether anything is adjusted that the views share."""
        shared = self.focal_tolerance, self.principal_point_tolerance_px, self.radial_tolerance, self.bead_tolerance_mm
        return any(tolerance > 0 for tolerance in shared)


@dataclass(frozen=True)
class CalibrationSettings:
    """How poses are found from beads and graded.

    Attributes:
        match: Tolerances of one view.
        bundle: What is adjusted over all views; by default nothing, so that each view stands alone.
        loosened: While the intrinsics are rough, points may lie this many times further from the beads.
        least_views: Fewer solved views adjust nothing that they share.
        green_beads: A green view explains at least this many.
        green_rms_px, amber_rms_px: Largest root mean square of the residuals' lengths.
        thin_share: Beads whose thickness (RMS along their least axis) is a smaller share of their extent (along the largest) are thin: the
            view is graded one lower.
        duplicate_px: Two views whose points lie nearer (RMS) are one shot.
    """

    match: MatchSettings = MatchSettings()
    bundle: BundleSettings = BundleSettings()
    loosened: float = 3.0
    least_views: int = 3
    green_beads: int = 7
    green_rms_px: float = 1.0
    amber_rms_px: float = 2.0
    thin_share: float = 0.15
    duplicate_px: float = 1.0


@dataclass(frozen=True)
class SelfCalibrationSettings:
    """How poses and unknown beads are found together.

    Attributes:
        match: Tolerances of one view once the beads are known; `inlier_px` is the last radius.
        prior_deg: Largest angle between the rotation from one view to the next and its prior, or, without one, from the first view.
        depth_share: Of the beads in the first guess, as a share of the source-detector distance; it also sets the scale of the result.
        plane_tilts_deg: Orientations of the plane that the beads are first guessed on, about both axes of the image.
        seed_share: Distance within which the flat guess explains a point, as a share of the image's half diagonal.
        grow_share: The same while views are added.
        seeds: First guesses that are followed up.
        focal_tolerance, principal_point_tolerance_px, radial_tolerance: How rough the intrinsics are, as in `BundleSettings`.
        relief_mm: Standard deviation of a bead about its first guess.
        good_share: A guess that explains this share of all points is followed no further.
        least_share: A solution that explains less of all points is none.
    """

    match: MatchSettings = MatchSettings()
    prior_deg: float = 50.0
    depth_share: float = 0.6
    plane_tilts_deg: tuple[float, ...] = (0.0, -25.0, 25.0)
    seed_share: float = 0.06
    grow_share: float = 0.015
    seeds: int = 8
    focal_tolerance: float = 0.05
    principal_point_tolerance_px: float = 20.0
    radial_tolerance: float = 0.0
    relief_mm: float = 30.0
    good_share: float = 0.95
    least_share: float = 0.6


@dataclass(frozen=True)
class DistortionSettings:
    """How the distortion of an image intensifier is fitted.

    Attributes:
        least_points: Fewer points of the grid are not enough.
        most_degree: Highest total degree of the polynomial that is tried.
        folds: The degree is chosen by points that were held out, one part of so many at a time.
        worth: A higher degree must lower the held-out residual to less than this share of a lower degree's.
        outlier_sigmas: Points further from the polynomial are left out.
        central_share: The grid's own scale, angle and place are taken from this share of the points, the innermost.
    """

    least_points: int = 60
    most_degree: int = 9
    folds: int = 5
    worth: float = 0.95
    outlier_sigmas: float = 5.0
    central_share: float = 0.15


@dataclass(frozen=True)
class InpaintSettings:
    """How beads and wires are taken out of an X-ray image.

    Attributes:
        halo_share, halo_px: A disc is grown to (1 + share) times its radius plus pixels: the ball is wider than where its contrast has
            fallen to half, and blur and glare surround it. A wire is grown by the pixels.
        tension: Between a thin plate (0: edges go on, noise at the rim is blown up) and a membrane (large: neither), in 1/px².
        smoothing_px: Noise around the hole that is finer is averaged out before it is continued inwards.
    """

    halo_share: float = 0.3
    halo_px: float = 2.0
    tension: float = 0.03
    smoothing_px: float = 1.2


@dataclass(frozen=True)
class CaseSettings:
    """How the X-rays of a case folder are calibrated.

    Attributes:
        beads: What counts as a bead.
        calibration: How poses are found and graded; its `bundle` holds where the intrinsics were measured.
        unknown: How poses and unknown beads are found together.
        focal_tolerance: Relative standard deviation of a source-detector distance that is stated but was not measured.
        principal_point_share: Standard deviation of each coordinate of a principal point that is stated or taken to be the middle, as a
            share of the image's half diagonal.
        pitch_share: Pixel pitches that differ by a larger share are not those of one detector.
        found_share: Unknown beads of which a smaller share was found are not found with certainty.
        misfit_ratio, misfit_px: A view whose residuals (RMS) are larger than this many times the median view's, and than this, is a misfit.
        distance_step_mm: Source-detector distances are told apart in such steps: views of another one have a camera of their own.
    """

    beads: BeadSettings = BeadSettings(polarity="bright")  # what is looked at is attenuation
    calibration: CalibrationSettings = CalibrationSettings()
    unknown: SelfCalibrationSettings = SelfCalibrationSettings()
    focal_tolerance: float = 0.02
    principal_point_share: float = 0.02
    pitch_share: float = 0.01
    found_share: float = 0.75
    misfit_ratio: float = 4.0
    misfit_px: float = 0.4
    distance_step_mm: float = 1.0


@dataclass(frozen=True)
class PoseFileSettings:
    """What a pose file of another program does not state itself.

    Attributes:
        coordinate_system: Of its points.
        unit: Of its lengths.
        rows_up: Whether it counts the rows of the image from the bottom.
        first_pixel_mm: Of an RTK geometry: origin of the projection images, (u, v); None if their middle is the origin.
    """

    coordinate_system: CoordinateSystem = "LPS"
    unit: LengthUnit = "mm"
    rows_up: bool = False
    first_pixel_mm: tuple[float, float] | None = None
