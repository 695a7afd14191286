"""Temperature and other single-band rasters: arrays and files without gaps."""
