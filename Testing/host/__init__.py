"""A strict stand-in for desktop Slicer's Qt side over slicer-core: PySide6 with PythonQt's manners. For tests; it never installs."""
