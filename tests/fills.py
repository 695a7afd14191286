"""What the tests of filled files share: a fill from the fields of its three values, given by name."""

from dataclasses import fields

from lacunar.fill.inputs import FillInputs
from lacunar.fill.job import fill_scene
from lacunar.fill.outputs import OutputFiles

INPUTS = {item.name for item in fields(FillInputs)}


def fill_lst(path, raster, *, options, callback=None, kind="product", **more):
    """Fill a product; ``more`` are fields of `FillInputs` and `OutputFiles`."""
    inputs = {name: value for name, value in more.items() if name in INPUTS}
    files = {name: value for name, value in more.items() if name not in INPUTS}
    inputs, files = FillInputs(path=path, kind=kind, **inputs), OutputFiles(raster=raster, **files)
    return fill_scene(inputs, files, options, callback=callback)


def fill_raster(path, raster, **more):
    """Fill a single-band raster."""
    return fill_lst(path, raster, kind="raster", **more)
