"""The side of ShapeCompletion that lives in Slicer."""
