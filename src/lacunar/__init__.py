"""Restore what images miss, and map water, with denoising diffusion models.

The public functions, for arrays (`xarray.DataArray` or numpy, NaN = missing) and for files:

- `open_scene`: a Landsat product, a raster or a picture as labelled arrays.
- `fill`, `fill_file`: land surface temperature, or any raster, without gaps. `zonal`: its means over polygons.
- `sharpen`: temperature by reflectances.
- `segment`, `segment_file`, `polygonize`: water, and its polygons with their area.
- `inpaint`: a picture without its masked part. `restore`: one that was shrunk, blurred, noisy, grey, ....
- `evaluate`: how good a method is. `load_model`, `show_versions`.

Rooms, from the doors down; a room imports only rooms below its line:

- `cli`: the commands. `web`: the page in the browser that `lacunar serve` opens.
- `evaluate`: how good results are. `train`: recipes and the loop that runs them.
- `fill` (temperature and other rasters), `segment` (water), `pictures` (faces and any picture): the three jobs.
- `models`: model folders, weights, backends, tiled denoising. `networks`: plain torch.
- `sensors`: files to physical bands. `interpolate`: Gaussian fields and classical fills.
- `diffusion`: the mathematics. `geo`: rasters, grids, windows, pictures on disk.
- `errors`, `metrics`, `plotting`, `versions`.

Three rooms have the name of the function that does their job: `lacunar.fill`, `lacunar.segment` and `lacunar.evaluate`
are packages that can be called.
"""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from lacunar.evaluate.job import evaluate
    from lacunar.fill.api import fill, fill_file
    from lacunar.fill.sharpen import sharpen
    from lacunar.fill.zonal import zonal
    from lacunar.models.backend import load_model
    from lacunar.pictures.api import inpaint
    from lacunar.pictures.restore import restore
    from lacunar.segment.api import polygonize, segment
    from lacunar.segment.job import segment_file
    from lacunar.sensors.scene import open_scene
    from lacunar.versions import show_versions

__version__ = "0.1.0"
__all__ = [
    "evaluate",
    "fill",
    "fill_file",
    "inpaint",
    "load_model",
    "open_scene",
    "polygonize",
    "restore",
    "segment",
    "segment_file",
    "sharpen",
    "show_versions",
    "zonal",
]

_MODULES = {  # public name -> the module that holds it, loaded when the name is first used
    "evaluate": "lacunar.evaluate.job",
    "fill": "lacunar.fill.api",
    "fill_file": "lacunar.fill.api",
    "inpaint": "lacunar.pictures.api",
    "load_model": "lacunar.models.backend",
    "open_scene": "lacunar.sensors.scene",
    "polygonize": "lacunar.segment.api",
    "restore": "lacunar.pictures.restore",
    "segment": "lacunar.segment.api",
    "segment_file": "lacunar.segment.job",
    "sharpen": "lacunar.fill.sharpen",
    "show_versions": "lacunar.versions",
    "zonal": "lacunar.fill.zonal",
}
_CALLABLE_ROOMS = ("fill", "segment", "evaluate")


class CallableRoom(ModuleType):
    """A package that does its job when it is called; its documentation is that of the function behind it."""

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self.__wrapped__(*args, **kwargs)

    @property
    def __wrapped__(self) -> Callable[..., object]:
        name = self.__name__.rpartition(".")[2]
        return cast(Callable[..., object], getattr(import_module(_MODULES[name]), name))

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self.__wrapped__.__doc__


def __getattr__(name: str) -> object:
    """Load a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'lacunar' has no attribute {name!r}")
    if name in _CALLABLE_ROOMS:
        return import_module(f"lacunar.{name}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
