"""Why is your LST wrong? What common faults, and public packages, make of the pixels of two Landsat scenes.

The peers are installed by name: `pip install --no-deps pylandtemp==0.0.1a1 pylst==0.1.0` (with geopandas, rasterio and
matplotlib, which this project needs too). Prints one Markdown table of kelvin, beside SEBAL as `lacunar` computes it.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from lacunar.sensors import sebal
from lacunar.sensors.mtl import Mtl, parse_mtl

SCENES = {
    "Flathead Lake (Landsat 8)": "LC08_L1TP_041027_20150604_20170226_01_T1",
    "Maui (Landsat 9)": "LC09_L1TP_063046_20230714_20230714_02_T1",
}
LANDSAT_8 = {"mult": 3.342e-4, "add": 0.1, "k1": 774.8853, "k2": 1321.0789}  # of band 10
CLOUD = 1 << 4  # of the quality band of Collection 1


class Scene:
    """Digital numbers and constants of one product."""

    def __init__(self, folder: Path) -> None:
        path = next(folder.glob("*_MTL.txt"))
        self.mtl: Mtl = parse_mtl(path.read_bytes(), path.name)
        self.dn = {band: self._read(folder, f"B{band}") for band in (4, 5, 10)}
        self.valid = np.logical_and.reduce([values > 0 for values in self.dn.values()])
        quality = list(folder.glob("*_BQA.TIF"))
        self.cloud = self._read(folder, "BQA").astype(int) & CLOUD > 0 if quality else None
        self.mult, self.add = (self.mtl.constant(f"RADIANCE_{kind}_BAND_10") for kind in ("MULT", "ADD"))
        self.k = {"k1": self.mtl.constant("K1_CONSTANT_BAND_10"), "k2": self.mtl.constant("K2_CONSTANT_BAND_10")}

    @staticmethod
    def _read(folder: Path, band: str) -> np.ndarray:
        with rasterio.open(next(folder.glob(f"*_{band}.TIF"))) as file:
            return file.read(1).astype(np.float64)

    def reflectance(self, band: int) -> np.ndarray:
        """Reflectance at the top of the atmosphere."""
        mult, add = (self.mtl.constant(f"REFLECTANCE_{kind}_BAND_{band}") for kind in ("MULT", "ADD"))
        elevation = self.mtl.constant("SUN_ELEVATION")
        return sebal.toa_reflectance(self.dn[band], mult=mult, add=add, sun_elevation=elevation)

    def lst(self, red: np.ndarray, nir: np.ndarray, **constants: float) -> np.ndarray:
        """SEBAL's temperature of these reflectances, with these thermal constants in place of the product's."""
        index = sebal.savi(red, nir)
        emissivity = sebal.emissivity(sebal.ndvi(red, nir), sebal.lai(index))
        known = {"mult": self.mult, "add": self.add} | self.k | constants
        radiance = known.pop("mult") * self.dn[10] + known.pop("add")
        return sebal.lst(radiance, emissivity, **known)


def peer(name: str, scene: Scene) -> np.ndarray | str:
    """What a package's own function for one thermal band gives, in kelvin; or how it stops."""
    try:
        if name.startswith("pylandtemp"):
            from pylandtemp import single_window

            return single_window(scene.dn[10], scene.dn[4], scene.dn[5], unit="kelvin")
        from pylst.pylst import single_window

        return single_window(scene.dn[10], scene.dn[4], scene.dn[5])
    except Exception as error:
        return f"stops with {type(error).__name__}"


def median(values: np.ndarray, where: np.ndarray) -> str:
    """Median difference as text with its sign."""
    return f"{np.nanmedian(values[where]):+.2f} K"


def column(scene: Scene) -> dict[str, str]:
    """Every row of the table for one scene."""
    red, nir = scene.reflectance(4), scene.reflectance(5)
    ours, clear = scene.lst(red, nir), scene.valid & (~scene.cloud if scene.cloud is not None else True)
    radiance = scene.mult * scene.dn[10] + scene.add
    brightness = sebal.brightness_temperature(radiance, **scene.k)
    slip = brightness / (1 + 0.0000115 * brightness / 14380 * np.log(0.98))  # metres against micrometres
    of_landsat_8 = scene.lst(red, nir, **LANDSAT_8)
    rows = {
        "SEBAL as computed here, median LST": f"{np.nanmedian(ours[clear]) - 273.15:.2f} °C",
        "gain, offset, K1 and K2 of Landsat 8, whatever the sensor": median(of_landsat_8 - ours, clear),
        "no emissivity: the brightness temperature": median(brightness - ours, clear),
        "emissivity term with wavelength in metres and its constant in µm K": median(slip - ours, clear),
        "NDVI and SAVI from raw digital numbers": median(scene.lst(scene.dn[4], scene.dn[5]) - ours, clear),
        "log10 in place of ln": median(scene.k["k2"] / np.log10(scene.k["k1"] / radiance + 1) - ours, clear),
        "fill (digital number 0) taken as measured": f"{_fill_temperature(scene) - 273.15:.0f} °C",
        "clouds unmasked: cloud minus clear ground": "no quality band"
        if scene.cloud is None
        else f"{np.nanmedian(ours[scene.cloud]) - np.nanmedian(ours[clear]):+.2f} K",
    }
    for name in ("pylandtemp 0.0.1a1, single_window", "pylst 0.1.0, single_window"):
        theirs = peer(name, scene)
        rows[name] = theirs if isinstance(theirs, str) else median(theirs - ours, clear)
    return rows


def _fill_temperature(scene: Scene) -> float:
    return float(scene.k["k2"] / np.log(scene.k["k1"] / scene.add + 1))


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with landsat/")
    folder = parser.parse_args().data / "landsat"
    columns = {title: column(Scene(folder / name)) for title, name in SCENES.items()}
    print(f"| what is done | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for row in next(iter(columns.values())):
        print(f"| {row} | {' | '.join(values[row] for values in columns.values())} |")


if __name__ == "__main__":
    main()
