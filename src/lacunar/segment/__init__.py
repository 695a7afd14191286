"""Maps of water: arrays, rasters, change between dates."""
