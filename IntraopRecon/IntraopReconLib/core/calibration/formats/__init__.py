"""Pose files of other programs: what each states, and how it becomes an `XrayView`."""
