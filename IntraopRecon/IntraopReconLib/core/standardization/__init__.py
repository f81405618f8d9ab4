"""Standardization: real X-rays become images of bone alone, and say where that cannot be trusted."""
