"""The parameters of the Gaussians and what they stand for."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from splat_scenes import one_gaussian, random_gaussians

from IntraopReconLib.core.splatting._projector_reference import symmetric
from IntraopReconLib.core.splatting.gaussians import Gaussians


def test_covariances_are_those_of_the_rotated_axes():
    gaussians = random_gaussians(50, seed=1)
    rotations = Rotation.from_quat(gaussians.quaternions.numpy(), scalar_first=True).as_matrix()
    expected = rotations @ (np.exp(2 * gaussians.log_scales.numpy())[:, :, None] * rotations.transpose(0, 2, 1))
    np.testing.assert_allclose(symmetric(gaussians.covariances_mm2()).numpy(), expected, rtol=1e-10, atol=1e-10)


def test_first_own_axis_turns_with_the_quaternion():
    half_turn_to_y = (np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5))  # 90° about z brings x to y
    xx, _, _, yy, _, zz = one_gaussian((0, 0, 0), (5.0, 2.0, 1.0), half_turn_to_y).covariances_mm2()[0].tolist()
    np.testing.assert_allclose([xx, yy, zz], [4.0, 25.0, 1.0], rtol=1e-12)


def test_length_of_quaternions_does_not_matter():
    gaussians = random_gaussians(10, seed=2)
    longer = Gaussians(gaussians.means_mm, gaussians.log_scales, -7.5 * gaussians.quaternions, gaussians.log_densities)
    torch.testing.assert_close(longer.covariances_mm2(), gaussians.covariances_mm2())


def test_mass_is_the_integral_over_space():
    gaussians = one_gaussian((0, 0, 0), (1.0, 2.0, 3.0), density_per_mm=0.03)
    axes = [np.arange(-6 * s, 6 * s + 0.1, 0.25) for s in (1.0, 2.0, 3.0)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    integral = (0.03 * np.exp(-0.5 * (x**2 + (y / 2) ** 2 + (z / 3) ** 2))).sum() * 0.25**3
    np.testing.assert_allclose(gaussians.masses_mm2().item(), integral, rtol=1e-6)
    np.testing.assert_allclose(gaussians.densities_per_mm().item(), 0.03, rtol=1e-12)


def test_parameters_come_by_name_in_the_order_of_the_constructor():
    gaussians = random_gaussians(4)
    assert list(gaussians.named()) == ["means_mm", "log_scales", "quaternions", "log_densities"]
    again = Gaussians(**gaussians.named())
    assert len(again) == 4 and again.log_scales is gaussians.log_scales
