"""The reconstruction itself: one folder a stage, in the order that the data take."""
