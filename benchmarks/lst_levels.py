"""Level-1 SEBAL, Level-1 SEBAL with the atmosphere of Level 2, and ST_B10, on the same pixels.

    python benchmarks/lst_levels.py PRODUCT

PRODUCT is a Landsat 8/9 Level-2 folder with its intermediate bands. ST_TRAD is the radiance of band 10 at the sensor,
what Level 1 holds; ST_ATRAN, ST_URAD and ST_DRAD are the air's transmissivity and its radiance up and down; ST_EMIS is
the emissivity by ASTER. Vegetation indices are of the surface reflectance, where a Level-1 product has that at the top
of the air.
"""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lacunar.evaluate.report import markdown_table
from lacunar.geo.raster import read_raster
from lacunar.geo.windows import Tile
from lacunar.sensors import sebal
from lacunar.sensors.scene import open_scene

RADIANCE, SHARE = 0.001, 0.0001  # scale factors of the intermediate bands (LSDS-1619)


def main() -> None:
    """Print the differences from ST_B10."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("product", type=Path)
    options = parser.parse_args()
    with open_scene(options.product) as scene:
        st = scene.measured()
        clear = st.known & scene.qa_flags(["clear"]) & ~scene.qa_flags(["snow", "water"])
        planes = scene.reflectance(Tile(0, 0, *scene.shape))
        red, nir = planes[2].astype(np.float64), planes[3].astype(np.float64)
    (mtl,) = options.product.glob("*_MTL.txt")
    constants = dict(re.findall(r"(K[12])_CONSTANT_BAND_10 = ([\d.]+)", mtl.read_text()))  # of its Level-1 group
    thermal = {"k1": float(constants["K1"]), "k2": float(constants["K2"])}
    air = Air.of(options.product)
    clear &= np.isfinite(red + nir + air.total)
    ndvi = sebal.ndvi(red, nir)
    of_sebal = sebal.emissivity(ndvi, sebal.lai(sebal.savi(red, nir)))
    one = Air(
        air.radiance,
        *(np.full(red.shape, np.median(part[clear])) for part in (air.tau, air.up, air.down)),
        air.emissivity,
    )
    rows = {
        "brightness temperature": sebal.brightness_temperature(air.radiance, **thermal),
        "SEBAL, no atmosphere (Level 1)": sebal.lst(air.radiance, of_sebal, **thermal),
        "SEBAL, one atmosphere for the scene": sebal.lst(one.corrected(of_sebal), of_sebal, **thermal),
        "SEBAL, Level-2 atmosphere of each pixel": sebal.lst(air.corrected(of_sebal), of_sebal, **thermal),
        "Level-2 atmosphere and emissivity": sebal.lst(air.corrected(air.emissivity), air.emissivity, **thermal),
    }
    print(
        f"{clear.sum()} clear pixels of land; transmissivity {np.median(air.tau[clear]):.2f}, path radiance "
        f"{np.median(air.up[clear]):.2f}, sky radiance {np.median(air.down[clear]):.2f}\n"
    )
    table = [(name, *differences((lst - st.values)[clear])) for name, lst in rows.items()]
    print(markdown_table(("against ST_B10, K", "bias", "standard deviation", "RMSE", "95 % within"), table))


@dataclass(frozen=True, eq=False)
class Air:
    """Radiance at the sensor, the air that it passed, and the emissivity of Level 2; NaN where unknown."""

    radiance: NDArray[np.float64]  # W m-2 sr-1 um-1
    tau: NDArray[np.float64]
    up: NDArray[np.float64]  # W m-2 sr-1 um-1
    down: NDArray[np.float64]
    emissivity: NDArray[np.float64]

    @classmethod
    def of(cls, product: Path) -> "Air":
        """Read the intermediate bands of a Level-2 product."""
        parts = []
        for band, scale in (
            ("TRAD", RADIANCE),
            ("ATRAN", SHARE),
            ("URAD", RADIANCE),
            ("DRAD", RADIANCE),
            ("EMIS", SHARE),
        ):
            raster = read_raster(next(product.glob(f"*_ST_{band}.TIF")))
            parts.append(np.where(raster.known[0], raster.data[0].astype(np.float64) * scale, np.nan))
        return cls(*parts)

    @property
    def total(self) -> NDArray[np.float64]:
        """NaN where one of them is unknown."""
        return self.radiance + self.tau + self.up + self.down + self.emissivity

    def corrected(self, emissivity: NDArray[np.float64]) -> NDArray[np.float64]:
        """Radiance of the surface without the sky that it reflects: (L - Rp) / tau - (1 - e) Rsky."""
        return (self.radiance - self.up) / self.tau - (1 - emissivity) * self.down


def differences(error: NDArray[np.float64]) -> tuple[str, ...]:
    """Bias, standard deviation, RMSE and 95 % quantile of the absolute difference, as text."""
    within = np.quantile(np.abs(error), 0.95)
    return tuple(f"{value:.2f}" for value in (error.mean(), error.std(), np.sqrt(np.mean(error**2)), within))


if __name__ == "__main__":
    main()
