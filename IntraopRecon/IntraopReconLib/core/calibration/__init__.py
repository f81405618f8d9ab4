"""Where the source and the detector were: poses of the views."""
