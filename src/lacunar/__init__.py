"""Restore what images miss, and map water, with denoising diffusion models.

Rooms, from the doors down; a room imports only rooms below its line:

- `cli`: the commands.
- `evaluate`: how good results are. `train`: recipes and the loop that runs them.
- `fill` (temperature and other rasters), `segment` (water), `pictures` (faces and any picture): the three jobs.
- `models`: model folders, weights, backends, tiled denoising. `networks`: plain torch.
- `sensors`: files to physical bands. `interpolate`: Gaussian fields and classical fills.
- `diffusion`: the mathematics. `geo`: rasters, grids, windows, pictures on disk.
- `errors`, `metrics`, `plotting`, `versions`.
"""

__version__ = "0.1.0"
