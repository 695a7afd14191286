"""Restore what images miss and map water, with denoising diffusion models.

A map of the package, from the doors down to the numbers:

- ``lacunar.cli``: the commands.
- ``lacunar.apps.lst``: a Landsat product or a raster with gaps -> a filled raster with its uncertainty.
- ``lacunar.recipes``, ``lacunar.training``, ``lacunar.datasets``: how the shipped models were trained.
- ``lacunar.evaluation``, ``lacunar.metrics``, ``lacunar.figures``: how good a fill is, and how it looks.
- ``lacunar.filling``: arrays with gaps -> samples of what the gaps may hold.
- ``lacunar.repaint``, ``lacunar.sampling``, ``lacunar.losses``, ``lacunar.diffusion``, ``lacunar.schedule``:
  the mathematics, functions over any ``Denoiser``.
- ``lacunar.networks``, ``lacunar.checkpoint``: networks and model folders.
- ``lacunar.landsat``, ``lacunar.radiometry``, ``lacunar.simulation``: Landsat products and their physics.
- ``lacunar.raster``, ``lacunar.tiling``, ``lacunar.scaling``, ``lacunar.masks``, ``lacunar.interpolation``: rasters,
  windows, value ranges, gap shapes and classical fills.
"""

__version__ = "0.1.0"
