"""What is selected in Slicer's DICOM browser."""

from __future__ import annotations

import slicer

from SparseAnatomyLib.host.Translate import tr as _


def selectedFiles() -> tuple[list[str], str]:
    """Return the files of the series that are selected in the DICOM module, or none and the reason."""
    widget = getattr(slicer.modules, "DICOMWidget", None)
    browser = getattr(getattr(widget, "browserWidget", None), "dicomBrowser", None)
    if browser is None:
        return [], _("Open Slicer's DICOM module and select the series of the X-rays there first.")
    if slicer.util.settingsValue("DICOM/UseVisualDICOMBrowser", False, converter=slicer.util.toBool):
        # the list that is hidden behind its pictures may still hold what was selected before, such as another patient's
        return [], _("Slicer's visual DICOM browser does not tell what is selected in it: switch to the list of series, or open a folder.")
    series = browser.dicomTableManager().currentSeriesSelection()
    files = [file for uid in series for file in slicer.dicomDatabase.filesForSeries(uid)]
    return files, "" if files else _("Nothing is selected in Slicer's DICOM module: select the series of the X-rays there first.")
