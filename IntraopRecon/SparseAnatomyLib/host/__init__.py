"""The side that lives in Slicer: scene, worker process, signals."""
