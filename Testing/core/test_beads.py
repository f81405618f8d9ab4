"""Beads: those of real C-arm images, seen by eye, and synthetic ones whose centers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from Testing.core.ball_images import bead_image

from IntraopReconLib.core.calibration.beads import Bead, find_beads
from IntraopReconLib.core.calibration_config import BeadSettings
from IntraopReconLib.core.xrays.dicom import read_radiographs
from IntraopReconLib.core.xrays.radiograph import attenuation

BY_EYE_PX = 3.0
ATTENUATION = BeadSettings(polarity="bright")
# Column,row of every bead, read off the screen: the small ones, then the large ones.
SEEN = {
    "Centered_0_Box_01": (
        "175,373 239,334 303,295 480,372 543,332 685,290 749,328 812,366 209,706 275,666 340,626 450,663 514,624 656,623 721,661 787,699",
        "388,498 605,496",
    ),
    "Orbit_15_Box_01": (
        "169,383 233,348 297,313 477,380 539,343 682,305 746,339 809,372 210,712 274,669 337,628 447,666 510,625 651,623 715,663 780,703",
        "385,507 601,504",
    ),
    "Orbit_30_Box_01": (
        "184,392 248,363 311,336 487,392 550,362 692,332 755,360 817,387 225,693 288,653 350,614 456,650 518,612 656,612 717,650 779,689",
        "396,508 609,507",
    ),
    "Tilt_15_Box_01": (
        "194,372 251,334 307,296 479,372 537,333 671,291 737,329 802,368 211,695 277,659 341,622 440,660 506,623 642,625 701,663 760,703",
        "387,496 593,496",
    ),
    "Tilt_30_Box_01": (
        "248,386 291,349 332,311 484,380 530,342 640,297 701,334 761,371 251,694 309,659 366,623 447,660 504,623 620,623 667,662 713,700",
        "403,502 577,499",
    ),
    "Centered_0_Spine_01": (
        "172,262 246,304 317,345 471,343 538,299 659,339 727,294 797,248 148,624 217,662 285,703 440,658 508,615 697,696 767,654 836,612",
        "372,481 606,477",
    ),
    "Orbit_30_Spine_01": (
        "181,310 255,341 326,373 481,376 550,347 668,378 739,349 812,320 155,604 223,646 291,689 441,649 508,609 689,696 757,655 826,616",
        "379,497 610,501",
    ),
    "Orbit_30_Spine_02": (
        "175,306 251,337 324,370 478,372 545,342 665,374 734,343 805,313 165,604 234,646 300,689 449,648 516,608 697,696 766,655 834,615",
        "381,495 612,498",
    ),
}


def _points(text: str) -> np.ndarray:
    return np.array([[float(number) for number in pair.split(",")] for pair in text.split()])


def _centers(beads: list[Bead]) -> np.ndarray:
    return np.array([bead.center_px for bead in beads]).reshape(-1, 2)


def _errors(beads: list[Bead], truth: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the distance to each true bead's nearest find, and how many finds are no true bead's nearest."""
    distance = np.hypot(*(_centers(beads)[:, None] - truth[None, :, :2]).transpose(2, 0, 1))
    return distance.min(axis=0), len(beads) - len(set(distance.argmin(axis=0)))


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEN)
def test_real_images_show_these_beads_and_no_others(shared_data: Path, name: str):
    (radiograph,) = read_radiographs(shared_data / "carm" / f"Fiducial_{name}.dcm")
    image = attenuation(radiograph)
    beads = find_beads(image.attenuation, image.mask)
    for size, text in zip(("small", "large"), SEEN[name], strict=True):
        error, false = _errors([bead for bead in beads if bead.size == size], _points(text))
        assert error.max() < BY_EYE_PX
        assert false == 0


@pytest.mark.slow
def test_polarity_and_resolution_do_not_matter(shared_data: Path):
    (radiograph,) = read_radiographs(shared_data / "carm" / "Fiducial_Orbit_30_Spine_01.dcm")
    image = attenuation(radiograph)
    reference = _centers(find_beads(image.attenuation, image.mask, ATTENUATION))
    assert len(reference) == 18
    for other in (radiograph.intensity, -image.attenuation):
        error, false = _errors(find_beads(other, image.mask), reference)
        assert error.max() < 0.02
        assert false == 0
    half = image.attenuation.reshape(512, 2, 512, 2).mean(axis=(1, 3)), image.mask.reshape(512, 2, 512, 2).all(axis=(1, 3))
    error, false = _errors(find_beads(*half, ATTENUATION), reference / 2 - 0.25)
    assert np.sqrt((error**2).mean()) < 0.05
    assert false == 0


@pytest.mark.parametrize("bone", [False, True], ids=["air", "bone"])
@pytest.mark.parametrize("radius", [2.0, 3.0, 6.0, 12.0])
def test_centers_are_right_to_a_fraction_of_a_pixel(radius: float, bone: bool):
    size = round(36 * radius) + 60
    share = np.array([[0.17, 0.2], [0.81, 0.25], [0.25, 0.82], [0.75, 0.8], [0.5, 0.52], [0.13, 0.55]])
    truth = np.column_stack([share * size + [[0.3, -0.2]], np.full(6, radius)])
    beads = find_beads(bead_image((size, size), truth, bone), np.ones((size, size), dtype=bool), ATTENUATION)
    error, false = _errors(beads, truth)
    assert false == 0
    assert error.max() < 0.12
    assert all(0.6 * radius < bead.radius_px < radius + 0.1 for bead in beads)
    assert {bead.size for bead in beads} == {"small"}


@pytest.mark.parametrize("gap", [0.0, 1.0, 4.0])
def test_touching_beads_stay_two(gap: float):
    truth = np.array([[60.0, 70, 7], [74 + gap, 70.4, 7], [180, 60, 7], [180, 74 + gap, 7], [60, 180, 7], [190, 190, 7]])
    beads = find_beads(bead_image((240, 250), truth, bone=False), np.ones((240, 250), dtype=bool), ATTENUATION)
    error, false = _errors(beads, truth)
    assert false == 0
    assert error.max() < 0.12


def test_two_sizes_are_told_apart_and_a_small_bead_beside_a_large_one_is_found():
    truth = np.array([[70.0, 70, 5], [150, 60, 5], [230, 80, 5], [80, 200, 5], [150, 150, 9], [165.5, 150, 5], [220, 220, 9]])
    beads = find_beads(bead_image((300, 300), truth, bone=False), np.ones((300, 300), dtype=bool), ATTENUATION)
    for size, radius in (("small", 5), ("large", 9)):
        error, false = _errors([bead for bead in beads if bead.size == size], truth[truth[:, 2] == radius])
        assert false == 0
        assert error.max() < 0.12


def test_a_bead_cut_by_the_shutter_is_measured_by_what_is_left():
    truth = np.array([[60.0, 60, 6], [140, 60, 6], [60, 140, 6], [140, 140, 6]])
    image, mask = bead_image((200, 200), truth, bone=False), np.ones((200, 200), dtype=bool)
    mask[:, 143:] = False
    image[:, 143:] = 9.0
    error, false = _errors(find_beads(image, mask, ATTENUATION), truth)
    assert false == 0
    assert error.max() < 0.25


def test_wires_bone_and_noise_are_no_beads():
    image = bead_image((300, 300), np.empty((0, 3)), bone=True)
    image[100:104, 40:260] += 1.0  # a wire
    image[140:200, 60:64] += 1.0
    image[180:220, 180:240] += 1.0  # a plate
    assert find_beads(image, np.ones(image.shape, dtype=bool), ATTENUATION) == []


def test_scores_fall_and_lie_between_0_and_1():
    truth = np.array([[60.0, 60, 6], [140, 60, 6], [60, 140, 6], [140, 140, 6]])
    beads = find_beads(bead_image((200, 200), truth, bone=True), np.ones((200, 200), dtype=bool))
    scores = [bead.score for bead in beads]
    assert scores == sorted(scores, reverse=True)
    assert all(0.5 < score <= 1 for score in scores)
    assert all(bead.contrast > 0.5 for bead in beads)


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_an_image_without_content_has_no_beads(value: float):
    assert find_beads(np.full((64, 64), value), np.ones((64, 64), dtype=bool)) == []
    assert find_beads(np.random.default_rng(0).normal(size=(64, 64)), np.zeros((64, 64), dtype=bool)) == []


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="image and mask"):
        find_beads(np.zeros((4, 5)), np.ones((5, 4), dtype=bool))
    with pytest.raises(ValueError, match="polarity"):
        find_beads(np.zeros((4, 5)), np.ones((4, 5), dtype=bool), BeadSettings(polarity="inverted"))
