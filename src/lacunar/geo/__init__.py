"""Rasters, grids, windows, warping, polygons and pictures on disk."""
