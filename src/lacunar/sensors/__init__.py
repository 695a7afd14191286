"""Files to physical bands: Landsat products, SEBAL, spectral bands, simulated scenes."""
