"""Restore what images miss and map water, with denoising diffusion models.

A map of the package, from the doors down to the numbers:

- ``lacunar.cli``, ``lacunar.progress``: the commands, and their progress bars.
- ``lacunar.apps.lst``: a Landsat product or a raster with gaps -> a filled raster with its uncertainty; its outputs
  (``lacunar.outputs``) and what is counted on the way (``lacunar.tally``).
- ``lacunar.recipes``, ``lacunar.training``, ``lacunar.transfer``, ``lacunar.datasets``, ``lacunar.packing``: how the
  shipped models were trained.
- ``lacunar.apps.lst_quality``: how good fills are: ``lacunar.cases`` filled by ``lacunar.evaluation``, measured by
  ``lacunar.measures`` (``lacunar.metrics``, ``lacunar.probabilistic``), pooled by ``lacunar.scores``, told by
  ``lacunar.tables`` and ``lacunar.quality_report`` (``lacunar.report``, ``lacunar.report_figures``).
- ``lacunar.figures``: how a fill looks.
- ``lacunar.gaps`` -> ``lacunar.streaming`` -> ``lacunar.filling``: what is a gap; a raster of any size in blocks;
  samples of what the gaps of one array may hold (``lacunar.tiled``), counted from the kriging of ``lacunar.basefield``
  (``lacunar.kriging``, ``lacunar.drift``). ``lacunar.references``, ``lacunar.warping``: other dates on the same grid.
- ``lacunar.repaint``, ``lacunar.sampling``, ``lacunar.losses``, ``lacunar.diffusion``, ``lacunar.schedule``:
  the mathematics, functions over any ``Denoiser``.
- ``lacunar.networks``, ``lacunar.checkpoint``, ``lacunar.card``: networks and model folders; ``lacunar.conversion`` and
  ``lacunar.guided_diffusion`` bring published checkpoints into them.
- ``lacunar.landsat``, with ``lacunar.mtl``, ``lacunar.archive`` and ``lacunar.quality``; ``lacunar.radiometry``:
  Landsat products and their physics. ``lacunar.simulation`` and ``lacunar.landscape``: a simulated product.
- ``lacunar.raster``, ``lacunar.tiling``, ``lacunar.scaling``, ``lacunar.masks``, ``lacunar.interpolation``: rasters,
  windows, value ranges, gap shapes and classical fills.
"""

__version__ = "0.1.0"
