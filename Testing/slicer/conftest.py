"""A scene without an application: what most tests of the logics need."""

import pytest


@pytest.fixture
def headless():
    pytest.importorskip("slicer")
    from SparseAnatomyLib.host.HeadlessScene import HeadlessScene

    return HeadlessScene()
