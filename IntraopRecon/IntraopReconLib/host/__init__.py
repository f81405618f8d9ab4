"""The side of IntraopRecon that lives in Slicer."""
