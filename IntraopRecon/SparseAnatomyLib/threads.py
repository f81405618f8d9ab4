"""How the threads of a computing process behave beside other programs."""

from __future__ import annotations

import os

_OPENMP_WAITING = "OMP_WAIT_POLICY"


def let_idle_threads_sleep() -> None:
    """Make idle OpenMP threads of this process sleep; call it before torch or numba are loaded, which ask only then.

    By default they spin until there is work again. A reconstruction is thousands of kernels of milliseconds: on a machine with other
    work, as every computer with a desktop is, the spinning threads take the processor from those that compute, and a run takes ten
    times as long. A policy that the user has set is left as it is.
    """
    os.environ.setdefault(_OPENMP_WAITING, "PASSIVE")
