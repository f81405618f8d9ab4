"""How long a job still takes, from how far it has come, in words."""

from __future__ import annotations

import time
from collections.abc import Callable

from SparseAnatomyLib.host.Translate import tr as _

_LEAST_S, _LEAST_SHARE = 3.0, 0.03  # before that, nothing can be said


class TimeLeft:
    """Watches the progress of one job."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin.

        Args:
            clock: Tells the time in seconds.
        """
        self._clock, self._start = clock, None

    def sentence(self, fraction: float) -> str:
        """Return how long it still takes, empty while that is not known.

        A job that goes on from where another was stopped begins far beyond zero: what counts is what it has done itself.

        Args:
            fraction: Share that is done.
        """
        now = self._clock()
        if self._start is None:
            if fraction > 0:
                self._start = (now, fraction)
            return ""
        seconds, share = now - self._start[0], fraction - self._start[1]
        if seconds < _LEAST_S or share < _LEAST_SHARE:
            return ""
        left_s = seconds / share * (1 - fraction)
        if left_s < 50:
            return _("less than a minute left")
        minutes = round(left_s / 60)
        return _("about a minute left") if minutes == 1 else _("about {minutes} minutes left").format(minutes=minutes)
