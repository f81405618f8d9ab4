"""The splatting projector: kernel against reference, reference against finite differences and the exact line integral, and the physics."""

from __future__ import annotations

import math
from dataclasses import replace

import numba
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from splat_scenes import ON_POSED_PROJECTORS, ON_PROJECTORS, ROTATIONS_DEG, converted, moved, oblique_view, one_gaussian, random_gaussians

from IntraopReconLib.core.splatting import _projector_numba, _voxelizer_numba
from IntraopReconLib.core.splatting._numba_rows import SUPPORT_SIGMAS
from IntraopReconLib.core.splatting._projector_reference import exact_line_integrals
from IntraopReconLib.core.splatting.gaussians import Gaussians
from IntraopReconLib.core.splatting.projector import Cameras, prepare, project
from IntraopReconLib.core.voxels import _projection_numba
from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.geometry import XrayView

CUT = math.exp(-0.5 * SUPPORT_SIGMAS**2)  # what the kernel may leave out: pixels below this share of the peak, and of the sum
VIEWS = [oblique_view(degrees) for degrees in ROTATIONS_DEG]


def exact(gaussians: Gaussians, view: XrayView) -> torch.Tensor:
    """Return the exact line integrals along the rays to all pixels, [row, column]."""
    field = gaussians.means_mm, gaussians.covariances_mm2(), gaussians.masses_mm2()
    return exact_line_integrals(*field, torch.as_tensor(view.source_lps_mm), torch.as_tensor(view.all_pixels_lps_mm()))


def close_view(degrees) -> XrayView:
    """Return a view with the same detector, its source 80 mm before the isocenter."""
    view = oblique_view(degrees)
    return replace(view, source_lps_mm=view.source_lps_mm * (80 / 600))


def upstream(kind: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a gradient by the images with values up to about one."""
    if kind == "constant":
        return torch.ones(shape, dtype=torch.float64)
    if kind == "random":
        return torch.rand(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 2 - 1
    row, column = torch.meshgrid(torch.arange(shape[1]), torch.arange(shape[2]), indexing="ij")
    return torch.cos(0.05 * column + 0.11 * row + 0.4).to(torch.float64).expand(shape)


@ON_PROJECTORS
@pytest.mark.parametrize("sigma_mm", [(1.5, 4.0), (0.3, 12.0), (0.1, 0.6)], ids=["typical", "needles", "below a pixel"])
def test_kernel_leaves_out_only_what_lies_beyond_the_support(backend, sigma_mm):
    """Gaussian by Gaussian: the kernel lies between the reference cut at SUPPORT_SIGMAS and the whole reference."""
    gaussians = random_gaussians(25, seed=3, sigma_mm=sigma_mm, reach_mm=45)
    cameras = Cameras.of(VIEWS)
    hits = 0
    for n in range(len(gaussians)):
        single = Gaussians(*(p[n : n + 1] for p in gaussians.named().values()))
        kernel = backend.project(converted(single, torch.float32), cameras).double()
        whole = project(single, cameras, "reference")
        peaks = _peaks(single, cameras)
        cut = torch.where(whole > peaks * CUT, whole, 0.0)
        tolerance = 1e-3 * whole + 2e-6 * peaks  # float32: pixel coordinates are good to 1e-5, and the slope is steep for needles
        assert (kernel <= whole + tolerance).all()
        assert (kernel >= cut - 0.02 * CUT * peaks - tolerance).all()  # the border itself is rounded
        hits += int((cut > 0).any())
    assert hits >= 10


def _peaks(single: Gaussians, cameras: Cameras) -> torch.Tensor:
    """Return the largest value of a Gaussian in each view, at whatever subpixel place, [view, 1, 1]: as seen in one pixel moved there."""
    peaks = []
    for matrix, source in zip(cameras.matrices, cameras.sources_mm, strict=True):
        homogeneous = matrix[:, :3] @ single.means_mm[0].numpy() + matrix[:, 3]
        shift = np.eye(3)
        shift[:2, 2] = -homogeneous[:2] / homogeneous[2]
        peaks.append(project(single, Cameras((shift @ matrix)[None], source[None], (1, 1)), "reference"))
    return torch.cat(peaks)


@ON_PROJECTORS
def test_kernel_equals_reference_for_many(backend):
    gaussians = random_gaussians(300, seed=4)
    cameras = Cameras.of(VIEWS)
    kernel, reference = backend.project(converted(gaussians, torch.float32), cameras), project(gaussians, cameras, "reference")
    assert kernel.dtype == torch.float32 and kernel.shape == (4, 47, 71)
    assert (kernel - reference).abs().max() < 10 * CUT * _mean_peak(gaussians)  # some dozen footprints end near each pixel, each by < CUT
    assert reference.max() > 5 * _mean_peak(gaussians)


def _mean_peak(gaussians: Gaussians) -> float:
    sigma = torch.exp(gaussians.log_scales.mean(-1))
    return (gaussians.densities_per_mm() * sigma).mean().item() * math.sqrt(2 * math.pi)


@ON_PROJECTORS
@pytest.mark.parametrize("perspective", ["C-arm", "close to the source"])
@pytest.mark.parametrize("kind", ["random", "smooth", "constant"])
def test_gradients_of_the_kernel_equal_those_of_the_reference(backend, kind, perspective):
    gaussians = random_gaussians(40, seed=6, reach_mm=40)
    cameras = Cameras.of(VIEWS)
    if perspective == "close to the source":  # how the footprint's shape moves with the mean counts here, 0.1 % of the gradient elsewhere
        cameras = Cameras.of([close_view(degrees) for degrees in ROTATIONS_DEG])
        gaussians = random_gaussians(40, seed=6, reach_mm=15, sigma_mm=(8, 14))
    ours, theirs = converted(gaussians, torch.float32, True), converted(gaussians, torch.float64, True)
    weights = upstream(kind, (4, 47, 71))
    (backend.project(ours, cameras) * weights.float()).sum().backward()
    images = project(theirs, cameras, "reference")
    (images * weights).sum().backward()

    tolerance = _tolerance(gaussians, cameras)
    for name, ours_p in ours.named().items():
        error = (ours_p.grad - theirs.named()[name].grad).abs().reshape(len(gaussians), -1).amax(1)
        allowed = tolerance[name] + 1e-5 * theirs.named()[name].grad.abs().max()
        assert (error < allowed).all(), (name, (error / allowed).max())


@ON_POSED_PROJECTORS
def test_gradients_by_the_pose_equal_those_of_the_reference(backend):
    gaussians = random_gaussians(40, seed=6, reach_mm=40)
    cameras = Cameras.of(VIEWS)
    weights = upstream("smooth", (4, 47, 71))
    found = []
    for ours in (True, False):
        twists = torch.zeros((4, 6), dtype=torch.float64, requires_grad=True)
        if ours:
            images = backend.project(converted(gaussians, torch.float32), cameras, motions=_motions(twists.to(backend.device)))
        else:
            images = project(gaussians, cameras, "reference", _motions(twists))
        (images * weights).sum().backward()
        found.append(twists.grad)
    tolerance = _tolerance(gaussians, cameras)  # of each Gaussian; what they leave out has any sign
    turned = tolerance["means_mm"] * gaussians.means_mm.norm(dim=1) + tolerance["log_scales"]
    error = (found[0] - found[1]).abs().amax(0)
    assert (error[:3] < turned.norm()).all() and (error[3:] < tolerance["means_mm"].norm()).all()
    assert (found[1].abs().amax(0) > 100 * error).all()


@ON_POSED_PROJECTORS
def test_moving_views_and_gaussians_together_changes_no_loss(backend):
    """So the gradient by all views' translation is minus the sum of those by the means."""
    gaussians = converted(random_gaussians(40, seed=6, reach_mm=40), torch.float32, True)
    twists = torch.zeros((4, 6), dtype=torch.float64, requires_grad=True)
    images = backend.project(gaussians, Cameras.of(VIEWS), motions=_motions(twists.to(backend.device)))
    (images * upstream("random", (4, 47, 71)).float()).sum().backward()
    together = twists.grad[:, 3:].sum(0) + gaussians.means_mm.grad.double().sum(0)
    assert together.abs().max() < 1e-4 * gaussians.means_mm.grad.norm(dim=1).sum()


def _motions(twists: torch.Tensor) -> torch.Tensor:
    """Return the rigid motions [view, 4, 4] of rotation vectors and translations in mm [view, 6]."""
    x, y, z, *shift = twists.unbind(1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, shift[0]], [z, zero, -x, shift[1]], [-y, x, zero, shift[2]], [zero] * 4
    return torch.linalg.matrix_exp(torch.stack([torch.stack(row, -1) for row in rows], -2))


def test_numba_says_that_it_has_no_gradient_by_the_pose():
    with pytest.raises(ValueError, match="motions"):
        project(random_gaussians(3, dtype=torch.float32), Cameras.of(VIEWS), "numba", torch.eye(4).expand(4, 4, 4))


def test_reference_moves_with_the_views():
    gaussians = random_gaussians(20, seed=6)
    motion = affine(Rotation.from_euler("xyz", [3, -7, 12], degrees=True).as_matrix(), [4.0, -2.0, 6.0])
    expected = project(gaussians, Cameras.of([view.transformed(motion) for view in VIEWS]), "reference")
    moved_views = project(gaussians, Cameras.of(VIEWS), "reference", torch.from_numpy(motion).expand(4, 4, 4))
    torch.testing.assert_close(moved_views, expected, rtol=1e-9, atol=1e-12)


def _tolerance(gaussians: Gaussians, cameras: Cameras) -> dict[str, torch.Tensor]:
    """Return how far each Gaussian's gradients may be off, for upstream gradients up to one.

    Beyond the support S lies a share CUT of the mass, (S + 1/S)·CUT of its first and S²/2·CUT of its trace-free second moment.
    """
    mass = _shares(gaussians, cameras)  # the gradient by log-density of an upstream gradient of one everywhere
    sigma = torch.exp(gaussians.log_scales)
    thin, aspect = sigma.amin(1), sigma.amax(1) / sigma.amin(1)
    return {
        "log_densities": mass * CUT,
        "means_mm": mass * (SUPPORT_SIGMAS + 1) * CUT / thin,
        "log_scales": mass * SUPPORT_SIGMAS**2 * CUT,
        "quaternions": mass * SUPPORT_SIGMAS**2 * CUT * 2 * aspect / gaussians.quaternions.norm(dim=1),
    }


def _shares(gaussians: Gaussians, cameras: Cameras) -> torch.Tensor:
    log_densities = gaussians.log_densities.clone().requires_grad_()
    images = project(Gaussians(gaussians.means_mm, gaussians.log_scales, gaussians.quaternions, log_densities), cameras, "reference")
    images.sum().backward()
    return log_densities.grad


def test_gradients_of_the_reference_equal_finite_differences():
    gaussians = random_gaussians(3, seed=7, reach_mm=15, sigma_mm=(4, 9))
    cameras = Cameras.of([oblique_view(degrees, (11, 9)).binned(1) for degrees in ROTATIONS_DEG[:2]])
    cameras = Cameras(np.diag([0.15, 0.15, 1.0]) @ cameras.matrices, cameras.sources_mm, cameras.size_px)  # big pixels

    def images(*parameters):
        return 100 * project(Gaussians(*parameters), cameras, "reference")

    assert images(*gaussians.named().values()).max() > 1
    assert torch.autograd.gradcheck(images, [p.clone().requires_grad_() for p in gaussians.named().values()], eps=1e-5, atol=1e-5)


@pytest.mark.parametrize(("sigma_mm", "bound"), [(1.0, 0.006), (2.0, 0.006), (4.0, 0.006), (12.0, 0.02)])
def test_rectified_splat_is_near_the_exact_line_integral(sigma_mm, bound):
    for mean in ([0, 0, 0], [25, 20, -20], [-20, -60, 15]):
        gaussians = one_gaussian(mean, (sigma_mm,) * 3)
        view = oblique_view(ROTATIONS_DEG[0], (141, 93))
        expected = exact(gaussians, view)
        image = project(gaussians, Cameras.of([view]), "reference")[0]
        assert expected.max() > 0.9 * 0.02 * sigma_mm * math.sqrt(2 * math.pi) * math.exp(-0.5 * (1 / sigma_mm) ** 2)
        assert (image - expected).abs().max() < bound * expected.max()


def test_rectified_splat_is_near_the_exact_line_integral_for_flat_and_long_gaussians():
    gaussians = random_gaussians(12, seed=9, sigma_mm=(0.8, 4.0), reach_mm=25)
    for view in VIEWS:
        for n in range(len(gaussians)):
            single = Gaussians(*(p[n : n + 1] for p in gaussians.named().values()))
            expected = exact(single, view)
            image = project(single, Cameras.of([view]), "reference")[0]
            assert (image - expected).abs().max() < 0.02 * expected.max()


@ON_PROJECTORS
@pytest.mark.parametrize("degrees", ROTATIONS_DEG)
def test_a_gaussian_appears_where_the_view_projects_it(backend, degrees):
    view = oblique_view(degrees)
    mean = np.linalg.inv(view.lps_from_camera)[:3, :3].T @ [12.0, -9.0, 0.0] + [3.0, -4.0, 5.0]
    image = backend.project(one_gaussian(mean, (2, 2, 2), dtype=torch.float32), Cameras.of([view]))[0].double().numpy()
    rows, columns = np.indices(image.shape)
    centroid = [(image * columns).sum() / image.sum(), (image * rows).sum() / image.sum()]
    expected = view.project(mean)
    assert (expected > 15).all() and (expected < np.array(view.size_px) - 15).all()  # wholly in the image
    np.testing.assert_allclose(centroid, expected, atol=0.01)


@ON_PROJECTORS
@pytest.mark.parametrize("degrees", ROTATIONS_DEG)
def test_pixels_sum_up_to_mass_times_magnification(backend, degrees):
    view = oblique_view(degrees)
    gaussians = one_gaussian([6.0, -8.0, 4.0], (1.5, 2.5, 3.5), (0.3, 0.5, -0.2, 0.9))
    ray = gaussians.means_mm[0].numpy() - view.source_lps_mm
    distance = np.linalg.norm(ray)
    cosine = ray @ view.lps_from_camera[:3, 2] / distance
    pixel_mm2 = np.linalg.norm(np.cross(view.column_step_lps_mm, view.row_step_lps_mm))
    magnification = (view.source_to_detector_mm / cosine / distance) ** 2 / cosine / pixel_mm2
    image = backend.project(converted(gaussians, torch.float32), Cameras.of([view]))
    np.testing.assert_allclose(image.sum().item(), gaussians.masses_mm2().item() * magnification, rtol=2 * CUT)


@ON_PROJECTORS
def test_moving_the_whole_scene_rigidly_leaves_the_images_unchanged(backend):
    gaussians = random_gaussians(100, seed=10)
    motion = affine(Rotation.from_euler("xyz", [33, -71, 12], degrees=True).as_matrix(), [40.0, -25.0, 60.0])
    before = backend.project(converted(gaussians, torch.float32), Cameras.of(VIEWS))
    after = backend.project(converted(moved(gaussians, motion), torch.float32), Cameras.of([view.transformed(motion) for view in VIEWS]))
    assert before.max() > 0.3
    assert (after - before).abs().max() < 5e-4 * before.max()


@ON_PROJECTORS
def test_scaling_millimeters_scales_attenuation(backend):
    gaussians = random_gaussians(100, seed=11)
    scale = 1.7
    larger = Gaussians(gaussians.means_mm * scale, gaussians.log_scales + math.log(scale), gaussians.quaternions, gaussians.log_densities)
    before = backend.project(converted(gaussians, torch.float32), Cameras.of(VIEWS))
    after = backend.project(converted(larger, torch.float32), Cameras.of([v.transformed(np.diag([scale] * 3 + [1.0])) for v in VIEWS]))
    assert (after - scale * before).abs().max() < 5e-4 * after.max()


@ON_PROJECTORS
@pytest.mark.parametrize("place", ["behind the source", "in its plane", "at the source", "left", "right", "above", "below", "far away"])
def test_what_the_view_does_not_see_gives_nothing(backend, place):
    view = VIEWS[1]
    x, y, z = view.lps_from_camera[:3, :3].T
    mean = {
        "behind the source": view.source_lps_mm - 50 * z,
        "in its plane": view.source_lps_mm + 30 * x,
        "at the source": view.source_lps_mm,
        "left": view.source_lps_mm + 600 * z - 300 * x,
        "right": view.source_lps_mm + 600 * z + 300 * x,
        "above": view.source_lps_mm + 600 * z - 300 * y,
        "below": view.source_lps_mm + 600 * z + 300 * y,
        "far away": np.array([1e6, -2e6, 1e6]),
    }[place]
    gaussians = converted(one_gaussian(mean), torch.float32, True)
    images = backend.project(gaussians, Cameras.of([view]))
    assert (images == 0).all()
    images.sum().backward()
    for name, parameter in gaussians.named().items():
        assert (parameter.grad == 0).all(), name


@ON_PROJECTORS
@pytest.mark.parametrize("corner", [(0, 0), (70, 0), (0, 46), (70, 46), (-3, 20), (73, 20), (30, -2), (30, 48)])
def test_gaussians_on_the_border_are_cut_by_it(backend, corner):
    view = VIEWS[1]
    ray = view.pixel_lps_mm(corner) - view.source_lps_mm
    gaussians = one_gaussian(view.source_lps_mm + ray * 0.6, (4, 4, 4))
    kernel = backend.project(converted(gaussians, torch.float32), Cameras.of([view])).double()
    reference = project(gaussians, Cameras.of([view]), "reference")
    assert reference.max() > 0.02
    assert (kernel - reference).abs().max() < 1.01 * CUT * 0.02 * 4 * math.sqrt(2 * math.pi)


@ON_PROJECTORS
def test_the_same_input_gives_the_same_bits(backend):
    gaussians = random_gaussians(500, seed=12, dtype=torch.float32)
    weights = upstream("random", (4, 47, 71)).float()
    results = []
    for _ in range(2):
        ours = converted(gaussians, torch.float32, True)
        images = backend.project(ours, Cameras.of(VIEWS))
        (images * weights).sum().backward()
        results.append([images.detach(), *(p.grad for p in ours.named().values())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="numba was started with one thread")
def test_threads_do_not_change_a_bit():
    gaussians = random_gaussians(500, seed=13, dtype=torch.float32)
    threads = numba.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            numba.set_num_threads(count)
            ours = converted(gaussians, torch.float32, True)
            images = project(ours, Cameras.of(VIEWS))
            images.square().sum().backward()
            results.append([images.detach(), *(p.grad for p in ours.named().values())])
    finally:
        numba.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@ON_PROJECTORS
def test_no_gaussians_give_empty_images(backend):
    images = backend.project(random_gaussians(0, dtype=torch.float32), Cameras.of(VIEWS))
    assert images.shape == (4, 47, 71) and (images == 0).all()


def test_views_of_different_size_are_refused():
    with pytest.raises(ValueError, match="one size"):
        Cameras.of([VIEWS[0], oblique_view(size_px=(30, 20))])


@ON_PROJECTORS
def test_cameras_are_selected_by_view(backend):
    gaussians = random_gaussians(20, seed=14, dtype=torch.float32)
    cameras = Cameras.of(VIEWS)
    assert len(cameras) == 4
    assert torch.equal(backend.project(gaussians, cameras[np.array([2, 0])]), backend.project(gaussians, cameras)[[2, 0]])


def test_prepare_leaves_nothing_to_compile():
    modules = _projector_numba, _voxelizer_numba, _projection_numba
    kernels = [_projector_numba.footprints, *(kernel for m in modules for kernel in (m.forward, m.backward))]
    prepare()
    compiled = [len(kernel.signatures) for kernel in kernels]
    assert min(compiled) >= 1
    gaussians = converted(random_gaussians(5), torch.float32, True)
    project(gaussians, Cameras.of(VIEWS)).square().sum().backward()
    assert [len(kernel.signatures) for kernel in kernels] == compiled
