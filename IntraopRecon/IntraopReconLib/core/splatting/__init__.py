"""Radiative Gaussians: projection, voxelization, initialization, losses."""
