"""The intermediates of LST as files: one GeoTIFF for each band of `lacunar.sensors.scene.Scene.intermediates`."""

from contextlib import ExitStack
from pathlib import Path

from lacunar.fill.blocks import BLOCK
from lacunar.geo.raster import RasterWriter, uncompressed_bytes
from lacunar.geo.staging import Staging
from lacunar.geo.windows import Tile, blocks_over
from lacunar.sensors.scene import Scene

BAND_UNITS = {"radiance": "W m-2 sr-1 um-1", "brightness_temperature": "K", "lst": "K", "lai": "m2 m-2"}


class LstBands:
    """The intermediates of a product, each of which becomes ``NAME.tif`` in a folder.

    Attributes
    ----------
    folder, targets
        The folder, and the files.
    """

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.scene, self.folder = scene, folder
        self.targets = [folder / f"{name}.tif" for name in scene.intermediates(Tile(0, 0, 1, 1))]

    def stage(self, staging: Staging) -> None:
        """Check the files before any work is done."""
        self.writers = [
            RasterWriter(
                staging.stage(path, size=uncompressed_bytes(self.scene.shape), make_folder=True),
                shape=self.scene.shape,
                transform=self.scene.transform,
                crs=self.scene.crs,
                band_names=(path.stem,),
                units=(BAND_UNITS.get(path.stem, ""),),
            )
            for path in self.targets
        ]

    def write(self) -> None:
        """Compute and write, block by block."""
        with ExitStack() as stack:
            for writer in self.writers:
                stack.enter_context(writer)
            for block in blocks_over(self.scene.shape, block=BLOCK, halo=0):
                bands = self.scene.intermediates(block.core)
                for writer, band in zip(self.writers, bands.values(), strict=True):
                    writer.write(band[None], block.core)
