"""The device in use, and its sentence."""

from __future__ import annotations

import pytest

from SparseAnatomyLib.devices import DEVICES, choose_device
from SparseAnatomyLib.errors import ResourceError


@pytest.mark.parametrize("wanted", ["auto", "cpu"])
def test_the_cpu_is_used_and_says_why(wanted):
    choice = choose_device(wanted)
    assert (choice.device, choice.kernel) == ("cpu", "numba")
    assert "CPU" in choice.sentence
    assert choice.sentence.endswith(".")


def test_no_gpu_kernels_yet_is_a_sentence_with_a_remedy():
    with pytest.raises(ResourceError) as caught:
        choose_device("cuda")
    assert caught.value.exit_code == 4
    assert "cpu" in caught.value.remedy


def test_another_word_names_the_choices():
    with pytest.raises(ValueError, match=", ".join(DEVICES)):
        choose_device("tpu")
