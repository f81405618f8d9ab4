"""The voxelizer: kernel against reference, reference against finite differences, mass, oriented grids, and agreement with the projector."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from splat_scenes import ON_ALL, ON_WARP, converted, moved, oblique_view, one_gaussian, random_gaussians

from IntraopReconLib.core.splatting._numba_rows import SUPPORT_SIGMAS
from IntraopReconLib.core.splatting.gaussians import Gaussians
from IntraopReconLib.core.splatting.projector import Cameras
from IntraopReconLib.core.splatting.voxelizer import voxelize
from IntraopReconLib.core.voxels.projection import ViewOnGrid, project_volume
from SparseAnatomyLib.frames import affine
from SparseAnatomyLib.grid import VoxelGrid

CUT = math.exp(-0.5 * SUPPORT_SIGMAS**2)  # what a Gaussian is, of its peak, where the kernel may leave it out
TURN = Rotation.from_euler("zyx", [30, -20, 50], degrees=True).as_matrix()
OBLIQUE = VoxelGrid((29, 21, 17), [2.0, 3.0, 2.5], TURN @ [-28.0, -30.0, -20.0], TURN)
CUBE = VoxelGrid.box(np.zeros(3), 60.0, 2.0)


@ON_ALL
@pytest.mark.parametrize("sigma_mm", [(1.5, 4.0), (0.3, 12.0), (0.3, 1.0)], ids=["typical", "needles", "below a voxel"])
@pytest.mark.parametrize("grid", [CUBE, OBLIQUE], ids=["cube", "oblique"])
def test_kernel_leaves_out_only_what_lies_beyond_the_support(backend, sigma_mm, grid):
    """Gaussian by Gaussian: the kernel lies between the reference cut at SUPPORT_SIGMAS and the whole reference."""
    gaussians = random_gaussians(20, seed=3, sigma_mm=sigma_mm, reach_mm=25)
    hits = 0
    rounding = 1e-3 if sigma_mm[1] < 10 * sigma_mm[0] else 2e-2  # float32 precisions are good to 1e-7 times (long / thin)²
    for n in range(len(gaussians)):
        single = Gaussians(*(p[n : n + 1] for p in gaussians.named().values()))
        peak = single.densities_per_mm().item()
        kernel = backend.voxelize(converted(single, torch.float32), grid).double()
        whole = voxelize(single, grid, "reference")
        cut = torch.where(whole > peak * CUT, whole, 0.0)
        tolerance = rounding * whole + 2e-6 * peak
        assert (kernel <= whole + tolerance).all()
        assert (kernel >= cut - 0.02 * CUT * peak - tolerance).all()  # the border itself is rounded
        hits += int((cut > 0).any())
    assert hits >= 5


@ON_ALL
def test_kernel_equals_reference_for_many(backend):
    gaussians = random_gaussians(300, seed=4)
    kernel, reference = backend.voxelize(converted(gaussians, torch.float32), OBLIQUE), voxelize(gaussians, OBLIQUE, "reference")
    assert kernel.dtype == torch.float32 and kernel.shape == OBLIQUE.shape_kji
    peak = gaussians.densities_per_mm().mean().item()
    assert reference.max() > 1.5 * peak
    assert (kernel - reference).abs().max() < 5 * CUT * peak  # some footprints end near each voxel, each by < CUT


@ON_ALL
@pytest.mark.parametrize("kind", ["random", "smooth"])
def test_gradients_of_the_kernel_equal_those_of_the_reference(backend, kind):
    """Beyond 4 σ a 3D Gaussian has a share 1.1e-3 of its mass, five times that of its first and ten times that of its second moment."""
    gaussians = random_gaussians(40, seed=6, sigma_mm=(2, 4.0))
    generator = torch.Generator().manual_seed(1)
    weights = torch.rand(OBLIQUE.shape_kji, generator=generator, dtype=torch.float64) * 2 - 1
    if kind == "smooth":
        k, j, i = torch.meshgrid(*(torch.arange(n) for n in OBLIQUE.shape_kji), indexing="ij")
        weights = torch.cos(0.2 * k + 0.1 * j - 0.15 * i).double()
    ours, theirs = converted(gaussians, torch.float32, True), converted(gaussians, torch.float64, True)
    (backend.voxelize(ours, OBLIQUE) * weights.float()).sum().backward()
    (voxelize(theirs, OBLIQUE, "reference") * weights).sum().backward()
    mass = gaussians.masses_mm2() / OBLIQUE.voxel_volume_mm3
    sigma = torch.exp(gaussians.log_scales)
    thin, aspect = sigma.amin(1), sigma.amax(1) / sigma.amin(1)
    tolerance = {
        "log_densities": mass * 1.2e-3,
        "means_mm": mass * 5e-3 / thin,
        "log_scales": mass * 1.2e-2,
        "quaternions": mass * 1.2e-2 * aspect / gaussians.quaternions.norm(dim=1),
    }
    for name, ours_p in ours.named().items():
        error = (ours_p.grad - theirs.named()[name].grad).abs().reshape(len(gaussians), -1).amax(1)
        allowed = tolerance[name] + 1e-5 * theirs.named()[name].grad.abs().max()
        assert (error < allowed).all(), (name, (error / allowed).max())


def test_gradients_of_the_reference_equal_finite_differences():
    gaussians = random_gaussians(3, seed=7, reach_mm=6, sigma_mm=(3, 6))
    grid = VoxelGrid((5, 4, 3), [4.0, 5.0, 6.0], TURN @ [-8.0, -7.0, -6.0], TURN)

    def volume(*parameters):
        return 100 * voxelize(Gaussians(*parameters), grid, "reference")

    assert volume(*gaussians.named().values()).max() > 1
    assert torch.autograd.gradcheck(volume, [p.clone().requires_grad_() for p in gaussians.named().values()], eps=1e-5, atol=1e-5)


@ON_ALL
@pytest.mark.parametrize("grid", [CUBE, OBLIQUE], ids=["cube", "oblique"])
def test_voxels_sum_up_to_the_mass(backend, grid):
    center = grid.center_lps_mm
    gaussians = one_gaussian(center, (2.5, 3.0, 4.0), (0.3, 0.5, -0.2, 0.9))
    volume = backend.voxelize(converted(gaussians, torch.float32), grid)
    outside = 1.2e-3  # the share of a 3D Gaussian beyond 4 σ
    np.testing.assert_allclose(volume.sum().item() * grid.voxel_volume_mm3, gaussians.masses_mm2().item(), rtol=outside)


@ON_ALL
@pytest.mark.parametrize("grid", [CUBE, OBLIQUE], ids=["cube", "oblique"])
def test_voxels_hold_the_field_at_their_centers(backend, grid):
    gaussians = converted(random_gaussians(30, seed=8), torch.float64)
    points = grid.points_lps_mm()
    volume = backend.voxelize(converted(gaussians, torch.float32), grid)
    for k, j, i in ((3, 5, 7), (10, 12, 20), (15, 2, 11)):
        offsets = points[k, j, i] - gaussians.means_mm.numpy()
        rotations = Rotation.from_quat(gaussians.quaternions.numpy(), scalar_first=True).inv()
        scaled = rotations.apply(offsets) / np.exp(gaussians.log_scales.numpy())
        expected = (np.exp(gaussians.log_densities.numpy()) * np.exp(-0.5 * (scaled**2).sum(1))).sum()
        assert volume[k, j, i].item() == pytest.approx(expected, abs=30 * CUT * 0.03)


@ON_ALL
def test_moving_scene_and_grid_leaves_the_volume_unchanged(backend):
    gaussians = random_gaussians(60, seed=10)
    motion = affine(TURN, [40.0, -25.0, 60.0])
    grid = VoxelGrid(OBLIQUE.size_ijk, OBLIQUE.spacing_mm, TURN @ OBLIQUE.origin_lps_mm + motion[:3, 3], TURN @ OBLIQUE.direction)
    before = backend.voxelize(converted(gaussians, torch.float32), OBLIQUE)
    after = backend.voxelize(converted(moved(gaussians, motion), torch.float32), grid)
    assert (after - before).abs().max() < 5e-4 * before.max()


@ON_ALL
def test_gaussians_outside_the_grid_give_nothing(backend):
    gaussians = converted(random_gaussians(6, seed=11), torch.float32)
    gaussians.means_mm[:] = torch.tensor([[90.0, 0, 0], [-90, 0, 0], [0, 90, 0], [0, -90, 0], [0, 0, 90], [0, 0, -90]])
    gaussians = converted(gaussians, torch.float32, True)
    volume = backend.voxelize(gaussians, CUBE)
    assert (volume == 0).all()
    volume.sum().backward()
    assert all((p.grad == 0).all() for p in gaussians.named().values())


@ON_ALL
def test_projection_of_the_volume_is_the_projection_of_the_gaussians(backend):
    """Splatting and ray integration through the voxels are two ways to the same X-ray."""
    gaussians = random_gaussians(80, seed=12, sigma_mm=(2.5, 4.0), reach_mm=25)
    view = oblique_view()
    grid = VoxelGrid.box(np.zeros(3), 96.0, 1.0)
    volume = backend.voxelize(converted(gaussians, torch.float32), grid).contiguous().numpy()
    through_voxels, _ = project_volume(volume, ViewOnGrid.of(view, grid))
    splatted = backend.project(converted(gaussians, torch.float32), Cameras.of([view]))[0].numpy()
    assert splatted.max() > 1.0
    # linear interpolation widens each Gaussian by up to h²/6 per axis: 1 mm² / 6 of at least 2.5² mm², hence 2 % of a peak
    assert np.abs(through_voxels - splatted).max() < 0.02 * splatted.max()


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="numba was started with one thread")
def test_neither_repeating_nor_threads_change_a_bit():
    gaussians = random_gaussians(500, seed=13, dtype=torch.float32)
    threads = numba.get_num_threads()
    results = []
    try:
        for count in (1, 2, 2):
            numba.set_num_threads(count)
            ours = converted(gaussians, torch.float32, True)
            volume = voxelize(ours, OBLIQUE)
            volume.square().sum().backward()
            results.append([volume.detach(), *(p.grad for p in ours.named().values())])
    finally:
        numba.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@ON_WARP
def test_the_same_input_gives_the_same_bits(backend):
    gaussians = random_gaussians(500, seed=13, dtype=torch.float32)
    results = []
    for _ in range(2):
        ours = converted(gaussians, torch.float32, True)
        volume = backend.voxelize(ours, OBLIQUE)
        volume.square().sum().backward()
        results.append([volume.detach(), *(p.grad for p in ours.named().values())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@ON_ALL
def test_no_gaussians_give_an_empty_volume(backend):
    assert (backend.voxelize(random_gaussians(0, dtype=torch.float32), CUBE) == 0).all()
