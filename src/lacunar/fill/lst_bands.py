"""The intermediates of LST as files: one GeoTIFF for each band of `lacunar.sensors.gaps.compute_lst`."""

from contextlib import ExitStack
from pathlib import Path

from lacunar.fill.blocks import BLOCK
from lacunar.geo.raster import RasterWriter, uncompressed_bytes
from lacunar.geo.staging import Staging
from lacunar.geo.windows import Tile, blocks_over
from lacunar.sensors.gaps import LstOptions, compute_lst
from lacunar.sensors.landsat import Product

BAND_UNITS = {"radiance": "W m-2 sr-1 um-1", "brightness_temperature": "K", "lst": "K", "lai": "m2 m-2"}


class LstBands:
    """The intermediates of a product, each of which becomes ``NAME.tif`` in a folder.

    Attributes
    ----------
    folder, targets
        The folder, and the files.
    """

    def __init__(self, product: Product, options: LstOptions, folder: Path) -> None:
        self.product, self.options, self.folder = product, options, folder
        names = compute_lst(product, options, window=Tile(0, 0, 1, 1))
        self.targets = [folder / f"{name}.tif" for name in names]

    def stage(self, staging: Staging) -> None:
        """Check the files before any work is done."""
        self.writers = [
            RasterWriter(
                staging.stage(path, size=uncompressed_bytes(self.product.shape), make_folder=True),
                shape=self.product.shape,
                transform=self.product.transform,
                crs=self.product.crs,
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
            for block in blocks_over(self.product.shape, block=BLOCK, halo=0):
                bands = compute_lst(self.product, self.options, window=block.core)
                for writer, band in zip(self.writers, bands.values(), strict=True):
                    writer.write(band[None], block.core)
