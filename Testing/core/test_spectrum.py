"""Spectra and materials: tables against physics, mixtures against Hounsfield units, hard beams against soft ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from IntraopReconLib.core.xrays.materials import MaterialVolumes, ideal_bone, material_integrals, materials_from_hounsfield
from IntraopReconLib.core.xrays.siddon import line_integrals
from IntraopReconLib.core.xrays.simulate import WATER_PER_MM, attenuation_from_hounsfield
from IntraopReconLib.core.xrays.spectrum import relative_attenuation, transmission, tube_spectrum
from SparseAnatomyLib.geometry import XrayView
from SparseAnatomyLib.grid import VoxelGrid

VIEW = XrayView(np.array([0.0, -600, 0]), np.array([-31.0, 420, 31]), np.array([2.0, 0, 0]), np.array([0, 0, -2.0]), (32, 32))


@pytest.mark.parametrize(("kilovolts", "low", "high"), [(60, 35, 48), (80, 42, 56), (120, 52, 72)])
def test_the_mean_energy_is_that_of_a_c_arm(kilovolts, low, high):
    assert low < tube_spectrum(kilovolts).mean_kev < high


def test_voltage_and_filters_harden_the_beam():
    mean = [tube_spectrum(60).mean_kev, tube_spectrum(80).mean_kev, tube_spectrum(80, copper_mm=0.3).mean_kev]
    assert mean == sorted(mean)
    assert tube_spectrum(80, aluminum_mm=3).mean_kev > mean[1]


@pytest.mark.parametrize("kilovolts", [49, 121, float("nan")])
def test_a_voltage_outside_the_tables_is_refused(kilovolts):
    with pytest.raises(ValueError, match="kilovolts"):
        tube_spectrum(kilovolts)


def test_materials_attenuate_as_at_60_kev_there():
    energy = tube_spectrum(80).energy_kev
    for substance in ("soft", "bone", "titanium"):
        curve = relative_attenuation(substance)
        assert np.exp(np.interp(np.log(60), np.log(energy), np.log(curve))) == pytest.approx(1, abs=1e-9)
        assert (np.diff(curve) < 0).all()  # no edge of these lies within the tables


def test_air_lets_everything_pass_and_nothing_more():
    clear = transmission(np.zeros((3, 2, 4), np.float32), tube_spectrum(80))
    np.testing.assert_allclose(clear, 1, rtol=1e-5)
    assert clear.shape == (2, 4)


@given(soft=st.floats(0, 8), bone=st.floats(0, 4), metal=st.floats(0, 3), kilovolts=st.floats(50, 120))
def test_beams_harden(soft, bone, metal, kilovolts):
    spectrum = tube_spectrum(kilovolts)
    once = transmission(np.array([soft, bone, metal], np.float32)[:, None], spectrum)[0]
    twice = transmission(2 * np.array([soft, bone, metal], np.float32)[:, None], spectrum)[0]
    assert twice >= once**2 * (1 - 1e-4)  # what passed once passes more easily
    assert twice <= once * (1 + 1e-5)


def test_one_energy_is_beer_and_lambert():
    spectrum = tube_spectrum(80)
    single = type(spectrum)(spectrum.energy_kev, (spectrum.energy_kev == 59).astype(float))
    integrals = np.array([2.0, 0.5, 0.1], np.float32)[:, None]
    ratios = [relative_attenuation(name)[spectrum.energy_kev == 59][0] for name in ("soft", "bone", "titanium")]
    assert transmission(integrals, single)[0] == pytest.approx(np.exp(-(np.array([2.0, 0.5, 0.1]) @ ratios)), rel=1e-5)


def test_materials_add_up_to_what_the_ct_says():
    hu = np.linspace(-1000, 3071, 400)
    materials = materials_from_hounsfield(hu)
    np.testing.assert_allclose(materials.sum(0), WATER_PER_MM * (1 + hu / 1000), atol=1e-7)
    assert (materials >= 0).all()
    assert materials[1:, hu < 100].max() == 0
    np.testing.assert_allclose(materials[1:].sum(0)[hu > 270], attenuation_from_hounsfield(hu)[hu > 270], rtol=1e-5)


def test_a_material_in_few_voxels_projects_as_in_the_whole_volume():
    grid = VoxelGrid.box(np.zeros(3), 40.0, 1.0)
    per_mm = np.zeros((3, *grid.shape_kji), np.float32)
    per_mm[0] = 0.02
    per_mm[1, 10:25, 12:30, 5:20] = 0.03
    integrals = material_integrals(MaterialVolumes(per_mm, grid), VIEW)
    np.testing.assert_allclose(integrals[1], line_integrals(per_mm[1], grid, VIEW), atol=1e-5)
    assert (integrals[2] == 0).all()
    np.testing.assert_array_equal(ideal_bone(integrals), integrals[1] + integrals[2])
