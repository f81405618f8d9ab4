"""For developers: Slicer's Reload button loads the module script again; this lets it load the libraries again too."""

from __future__ import annotations

import sys


def forgetModules(*packages: str) -> list[str]:
    """Make Python import packages anew the next time: call it before the module script imports them; return the modules forgotten."""
    names = [name for name in sys.modules if name.split(".")[0] in packages]
    for name in names:
        del sys.modules[name]
    return names
