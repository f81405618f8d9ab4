"""Voxel volumes: their projections, and their reconstruction by SART with total variation."""
