"""The benchmark's pathology: where it is, what it is made of, and that the measure of its contrast measures."""

from __future__ import annotations

import numpy as np
import pytest
from Testing.benchmarks import standardization
from Testing.benchmarks.pathology import HEAD_MM, KINDS, LENGTH_MM, TITANIUM_PER_MM, contrast_recovery, insert

from IntraopReconLib.core.xrays.materials import MaterialVolumes
from SparseAnatomyLib.grid import VoxelGrid


def bone_block() -> MaterialVolumes:
    """Return a patient of bone, with soft tissue around it."""
    grid = VoxelGrid.box(np.array([5.0, -3.0, 8.0]), 100.0, 2.0)
    per_mm = np.zeros((3, *grid.shape_kji), np.float32)
    per_mm[0] = 0.021
    per_mm[0, 10:40, 10:40, 10:40], per_mm[1, 10:40, 10:40, 10:40] = 0, 0.03
    return MaterialVolumes(per_mm, grid)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pathology_changes_bone_and_leaves_nothing_negative(kind):
    patient = bone_block()
    change = insert(kind, patient, patient.grid.center_lps_mm, np.random.default_rng(0)).change
    taken = change.per_mm[1].min()
    assert taken == pytest.approx(-0.03, abs=1e-6)
    assert (change.per_mm[2].max() > 0) == (kind == "screw")
    np.testing.assert_allclose(change.grid.center_lps_mm, patient.grid.center_lps_mm)
    assert (change.per_mm[1] <= 1e-7).all()


def test_a_screw_has_the_metal_of_its_form():
    patient = bone_block()
    change = insert("screw", patient, patient.grid.center_lps_mm, np.random.default_rng(1)).change
    mm3 = change.per_mm[2].sum() / TITANIUM_PER_MM * change.grid.voxel_volume_mm3
    assert np.pi * 2.2**2 * LENGTH_MM < mm3 < np.pi * HEAD_MM**2 * LENGTH_MM


def test_outside_the_patient_a_lesion_changes_nothing():
    patient = bone_block()
    assert not insert("lytic", patient, patient.grid.center_lps_mm + 300, np.random.default_rng(0)).change.per_mm.any()


def test_recovery_is_one_for_all_of_it_and_zero_for_an_erased_one():
    ideal = np.zeros((20, 20))
    ideal[5:10, 5:10] = -0.4
    assert contrast_recovery(ideal, ideal) == pytest.approx(1)
    assert contrast_recovery(0.6 * ideal, ideal) == pytest.approx(0.6)
    assert contrast_recovery(np.zeros_like(ideal), ideal) == 0
    elsewhere = np.where(ideal == 0, 3.0, 0.0)
    assert contrast_recovery(ideal + elsewhere, ideal) == pytest.approx(1)


def test_the_gate_names_what_was_erased(capsys):
    kept = {"fracture": 0.7, "lytic": 0.61, "screw": 0.85}
    assert standardization.gate({"network": kept}) == 0
    assert standardization.gate({"network": kept | {"screw": 0.5}}) == 1
    assert "screw" in capsys.readouterr().out
    assert standardization.gate({"network": kept | {"lytic": float("nan")}}) == 1
