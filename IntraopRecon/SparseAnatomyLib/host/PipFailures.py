"""What pip's output means to the user when an installation has failed: one sentence and a remedy."""

from __future__ import annotations

import re

from SparseAnatomyLib.errors import ResourceError

from .Translate import tr as _

_NO_PIP = r"No module named pip\b"
_DISK_FULL = r"\[Errno 28\]|No space left on device|\[WinError 112\]|Disk quota exceeded"
_DENIED = r"\[Errno 13\]|\[Errno 30\]|\[WinError 5\]|Permission denied|Access is denied|Read-only file system"
_IN_USE = r"\[WinError 32\]|being used by another process"
_PROXY = r"ProxyError|[Pp]roxy Authentication Required|Cannot connect to proxy|Tunnel connection failed"
_CERTIFICATE = r"SSLError|SSLCertVerificationError|CERTIFICATE_VERIFY_FAILED"
_NETWORK = (
    r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ConnectionResetError|ProtocolError|IncompleteRead|"
    r"Failed to establish a new connection|Temporary failure in name resolution|getaddrinfo failed|Network is unreachable|"
    r"Connection refused|Connection aborted|Read timed out|Max retries exceeded"
)
_CONFLICT = r"(?s)conflicting dependencies.*? depends on "  # without the latter, there is none to be had of what we ask for
_HELD = r"The user requested \(constraint\) ([\w.-]+?)=="
_NO_WHEEL = rf"No matching distribution found for ([\w.-]+)|{_HELD}"


def pipError(output: str) -> ResourceError:
    """Return what is wrong and what to do.

    Args:
        output: All that pip has written.
    """
    if re.search(_NO_PIP, output):
        return ResourceError(_("Slicer's Python has no pip."), _("Install Slicer again."))
    if re.search(_DISK_FULL, output):
        return ResourceError(
            _("The disk is full: the packages could not be installed."), _("Free 2 GB on the disk of Slicer, then install again.")
        )
    if re.search(_IN_USE, output):
        return ResourceError(_("A file that would be replaced is in use."), _("Restart Slicer, then install before anything else."))
    if re.search(_DENIED, output):
        return ResourceError(
            _("The folder of Slicer may not be written to."),
            _("Install Slicer where you may write, or start it once as administrator to install the packages."),
        )
    return _connectionError(output) or _resolutionError(output)


def _connectionError(output: str) -> ResourceError | None:
    """Return what stands between this computer and the index; before what pip concludes from an index that it could not read."""
    if re.search(_PROXY, output):
        return ResourceError(
            _("The network's proxy lets nothing through to the Python Package Index."),
            _("Ask your network's administrators for the proxy's address, set it as HTTPS_PROXY, restart Slicer, then install again."),
        )
    if re.search(_CERTIFICATE, output):
        return ResourceError(
            _("The connection to the Python Package Index is not trusted: a firewall may be opening it."),
            _("Ask your network's administrators for its certificate, set PIP_CERT to that file, restart Slicer, then install again."),
        )
    if re.search(_NETWORK, output):
        return ResourceError(
            _("The Python Package Index could not be reached."),
            _("Check that this computer has a connection to the internet (pypi.org and files.pythonhosted.org), then install again."),
        )
    return None


def _resolutionError(output: str) -> ResourceError:
    if re.search(_CONFLICT, output):
        held = ", ".join(dict.fromkeys(re.findall(_HELD, output))) or _("a package")
        return ResourceError(
            _("Another version of {name} is needed than Slicer or another extension has installed, which stays as it is.").format(
                name=held
            ),
            _("Update Slicer and SparseAnatomy, then install again."),
        )
    if match := re.search(_NO_WHEEL, output):
        return ResourceError(
            _("There is no ready-made {name} for this computer and this Slicer's Python.").format(name=match[1] or match[2]),
            _("Install Slicer 5.10 or later, for Windows, Linux or a Mac with Apple's chip."),
        )
    return ResourceError(
        _("The packages could not be installed."),
        _("Install again; if it fails twice, copy the details and send them to those who can help."),
    )
