"""Restore what images miss and map water, with denoising diffusion models.

A map of the package, from the doors down to the numbers:

- ``lacunar.cli``, ``lacunar.progress``: the commands, and their progress bars.
- ``lacunar.batch``: many scenes (``lacunar.scene_list``), here or on a Dask cluster (``lacunar.cluster``,
  ``lacunar.cluster_tasks``).
- ``lacunar.apps.lst``: a Landsat product or a raster with gaps -> a filled raster with its uncertainty: what is read
  (``lacunar.fill_inputs``), how (``lacunar.fill_options``), what is written (``lacunar.fill_outputs``,
  ``lacunar.outputs``, ``lacunar.lst_bands``), kept of an interrupted run (``lacunar.block_store``,
  ``lacunar.fingerprint``) and counted (``lacunar.tally``).
- ``lacunar.apps.water``: an image -> a map of water (``lacunar.water_map``), polygons (``lacunar.polygons``), change
  between dates (``lacunar.water_changes``, ``lacunar.dates``), figures (``lacunar.water_figures``).
- ``lacunar.apps.faces``: a picture and a mask -> filled pictures (``lacunar.face_figures``).
- ``lacunar.recipes``, ``lacunar.training``, ``lacunar.objectives``, ``lacunar.distillation``, ``lacunar.transfer``: how
  the shipped models were trained, on examples of LST (``lacunar.datasets``, ``lacunar.packing``), water
  (``lacunar.water_examples``, ``lacunar.water_data``) and pictures (``lacunar.picture_datasets``,
  ``lacunar.picture_packing``).
- ``lacunar.apps.lst_quality``, ``water_quality``, ``face_quality``: how good results are. Fills: ``lacunar.cases``
  filled by ``lacunar.evaluation``, measured by ``lacunar.measures`` (``lacunar.metrics``, ``lacunar.probabilistic``),
  pooled by ``lacunar.scores``, told by ``lacunar.tables`` and ``lacunar.quality_report`` (``lacunar.report``,
  ``lacunar.report_figures``). Maps of water and pictures have the same rooms, named ``water_*`` and ``picture_*``;
  ``lacunar.water_baselines`` are spectral indices, ``lacunar.bootstrap`` and ``lacunar.confusion`` serve all.
- ``lacunar.figures``, ``lacunar.water_figures``: how a fill and a map look. ``lacunar.errors``: what is refused.
- ``lacunar.gaps`` -> ``lacunar.streaming`` -> ``lacunar.filling``: what is a gap; a raster of any size in blocks;
  samples of what the gaps of one array may hold, counted from the kriging of ``lacunar.basefield``
  (``lacunar.kriging``, ``lacunar.drift``). ``lacunar.references``, ``lacunar.warping``: other dates on the same grid.
- ``lacunar.scenes`` -> ``lacunar.segmentation`` -> ``lacunar.fusion``: pictures, rasters and products as six bands
  (``lacunar.channels``, ``lacunar.spectra``, ``lacunar.reflectance``); samples of their water, block by block; one map
  from them.
- ``lacunar.face_roi`` -> ``lacunar.face_filling`` -> ``lacunar.picture_filling``: where a face is; its fill in the
  model's frame; the holes (``lacunar.holes``) of any picture (``lacunar.images``) from coarse to fine, counted from
  ``lacunar.picture_base`` and what ``lacunar.gaussian_prior`` expects of faces, grid by grid
  (``lacunar.picture_sampling``, ``lacunar.refinement``).
- ``lacunar.tiled``, ``lacunar.noise``: one denoiser of a whole array; noise that belongs to pixels.
- ``lacunar.presets``, ``lacunar.samplers`` -> ``lacunar.solvers``, ``lacunar.unipc``, ``lacunar.zero_shot``,
  ``lacunar.repaint``, ``lacunar.sampling``: every way to draw a sample.
- ``lacunar.repaint``, ``lacunar.sampling``, ``lacunar.losses``, ``lacunar.diffusion``, ``lacunar.schedule``:
  the mathematics, functions over any ``Denoiser``.
- ``lacunar.engines``, ``lacunar.graphs``, ``lacunar.devices``: what computes a network's answers, and where.
- ``lacunar.networks``, ``lacunar.checkpoint``, ``lacunar.weights``, ``lacunar.card``: networks and model folders;
  ``lacunar.conversion`` and ``lacunar.guided_diffusion`` bring published checkpoints into them.
- ``lacunar.landsat``, with ``lacunar.mtl``, ``lacunar.archive`` and ``lacunar.quality``; ``lacunar.radiometry``:
  Landsat products and their physics. ``lacunar.simulation`` and ``lacunar.landscape``: a simulated product.
- ``lacunar.raster``, ``lacunar.grids``, ``lacunar.tiling``, ``lacunar.scaling``, ``lacunar.masks``,
  ``lacunar.occlusions``, ``lacunar.interpolation``: rasters, windows, value ranges, shapes of gaps, classical fills.
"""

__version__ = "0.1.0"
