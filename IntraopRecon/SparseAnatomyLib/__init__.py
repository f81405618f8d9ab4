"""What both modules of the SparseAnatomy extension share."""
