"""Good inputs of every kind, small, made once: what the mutators start from."""

import io
import json
import shutil
import tarfile
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
import torch
from PIL import Image
from rasterio.transform import from_origin
from trial import CANARY, CANARY_VALUE

from gap_models import tiny_model
from guided_checkpoints import ARCHITECTURE, guided_state, save_diffusers_folder
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.models.card import Card
from lacunar.models.checkpoint import SegmentationModel, save_model
from lacunar.networks.segdiff import SegmenterConfig, WaterSegDiff
from lacunar.sensors.simulated import PRODUCT_ID, simulate_product
from picture_models import tiny_picture_model
from water_models import lake_scene

SIDE = 40
CRS, PLACE = "EPSG:32632", from_origin(500000, 5200000, 30, 30)
LEVEL_2 = "LC08_L2SP_232088_20221115_20221122_02_T1"
BANDS = ("blue", "green", "red", "nir")
# Rasters by the driver that wrote them: ending, type of the numbers, creation options.
FORMATS = {
    "GTiff": (".tif", "float32", {}),
    "GTiff tiled": (".tif", "float32", {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate", "predictor": 3}),
    "GTiff lzw": (".tif", "int16", {"compress": "lzw"}),
    "COG": (".tif", "float32", {"compress": "deflate"}),
    "ENVI": (".dat", "float32", {}),
    "HFA": (".img", "float32", {}),
    "AAIGrid": (".asc", "float32", {}),
    "PNG": (".png", "uint16", {}),
    "JPEG": (".jpg", "uint8", {"quality": 95}),
    "JP2OpenJPEG": (".jp2", "uint16", {"quality": 100, "reversible": "yes"}),
    "netCDF": (".nc", "float32", {}),
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """A folder with everything that is good."""

    root: Path

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    def give(self, name: str, folder: Path, under: str = "") -> Path:
        """Copy an input, and what belongs to it, into the folder of a case."""
        source, target = self.root / name, folder / "in" / (under or Path(name).name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
            for other in source.parent.glob(f"{source.stem}.*"):
                if other != source:
                    shutil.copy(other, target.with_name(target.stem + other.name.removeprefix(source.stem)))
        return target


def temperature(shape=(SIDE, SIDE), seed=0):
    """A smooth field in kelvin with some noise, float64."""
    rng = np.random.default_rng(seed)
    rows, cols = np.indices(shape)
    waves = 5 * np.sin(rows / 9 + rng.uniform(0, 6)) + 4 * np.cos(cols / 7 + rng.uniform(0, 6))
    return 292 + waves + rng.normal(0, 0.3, shape)


def gap(shape=(SIDE, SIDE)):
    """What is missing: a disc, and some single pixels."""
    rows, cols = np.indices(shape)
    hidden = np.hypot(rows - 0.45 * shape[0], cols - 0.5 * shape[1]) < 0.2 * min(shape)
    hidden[(rows * 7 + cols * 13) % 97 == 0] = True
    hidden[:2, :2] = False
    return hidden


def write(path, bands, *, driver="GTiff", crs=CRS, transform=PLACE, options=None, **profile):
    """A raster by GDAL's driver."""
    bands = np.atleast_3d(np.asarray(bands).T).T
    shape = {"count": bands.shape[0], "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype.name}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if driver in ("AAIGrid", "PNG", "JPEG", "JP2OpenJPEG", "COG", "netCDF"):  # can only copy
            with rasterio.MemoryFile() as memory:
                with memory.open(driver="GTiff", crs=crs, transform=transform, **shape, **profile) as made:
                    made.write(bands)
                with memory.open() as made:
                    rasterio.shutil.copy(made, path, driver=driver, **(options or {}))
        else:
            with rasterio.open(
                path, "w", driver=driver, crs=crs, transform=transform, **shape, **profile, **(options or {})
            ) as made:
                made.write(bands)
    return path


def make_world(root: Path) -> World:
    """Make it all."""
    world = World(root)
    for name in ("rasters", "products", "waters", "pictures", "models", "checkpoints", "elsewhere", "sets", "zones"):
        (root / name).mkdir(parents=True)
    _rasters(root / "rasters")
    _products(root / "products")
    _waters(root / "waters")
    _pictures(root / "pictures")
    _models(root / "models")
    _checkpoints(root / "checkpoints")
    _sets(root / "sets")
    _zones(root)
    (root / "elsewhere" / "canary.txt").write_bytes(CANARY * 20)
    zones().to_file(root / "elsewhere" / "canary.geojson")
    write(root / "elsewhere" / "canary.tif", np.full((SIDE, SIDE), CANARY_VALUE, np.float32))
    return world


def formats():
    """The drivers that this build of GDAL has."""
    with rasterio.Env() as env:
        there = env.drivers()
    return {name: form for name, form in FORMATS.items() if name.split()[0] in there}


def _rasters(folder):
    values, hidden = temperature(), gap()
    for name, (ending, dtype, options) in formats().items():
        path = folder / f"{name.replace(' ', '_').lower()}{ending}"
        numbers, nodata = (values, -9999.0) if dtype == "float32" else ((values - 273.15) * 4 + 60, 0)
        write(
            path,
            np.where(hidden, nodata, numbers).astype(dtype),
            driver=name.split()[0],
            nodata=nodata,
            options=options,
        )
    write(
        folder / "reference.tif",
        np.where(np.roll(hidden, 9, 1), np.nan, temperature(seed=1)).astype("f4"),
        nodata=np.nan,
    )
    wide = from_origin(499700, 5200300, 45, 45)
    write(folder / "covariate.tif", (temperature((40, 40), 2) * 3).astype("f4"), transform=wide)
    write(folder / "mask.tif", hidden.astype("u1"))
    write(folder / "truth.tif", values.astype("f4"))


def _products(folder):
    made = simulate_product(folder / "level1", size=64, seed=3).folder
    for path in made.glob("*TRUTH*"):
        path.unlink()
    text = next(made.glob("*_MTL.txt"))
    level2(made, folder / "level2")
    for form in ("json", "xml"):
        other = Path(shutil.copytree(made, folder / f"level1_{form}"))
        (other / text.name).unlink()
        groups = groups_of(text.read_text())
        written = json.dumps({"LANDSAT_METADATA_FILE": groups}, indent=1) if form == "json" else xml_of(groups)
        (other / text.name).with_suffix(f".{form}").write_text(written)
    for name, mode, form in (("plain.tar", "w", tarfile.GNU_FORMAT), ("zipped.tar.gz", "w:gz", tarfile.USTAR_FORMAT),
                             ("small.tar.xz", "w:xz", tarfile.GNU_FORMAT), ("pax.tar", "w", tarfile.PAX_FORMAT)):  # fmt: skip
        with tarfile.open(folder / name, mode, format=form) as tar:
            for path in sorted(made.iterdir()):
                tar.add(path, path.name)
    with zipfile.ZipFile(folder / "product.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(made.iterdir()):
            archive.write(path, path.name)


def groups_of(text):
    """Groups of an MTL file in text form."""
    groups, name = {}, ""
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        if key == "GROUP" and value != "LANDSAT_METADATA_FILE":
            name = value
        elif "GROUP" not in key and name and value:
            groups.setdefault(name, {})[key] = value.strip('"')
    return groups


def xml_of(groups):
    """The same as XML."""
    inner = "".join(f"<{g}>" + "".join(f"<{k}>{v}</{k}>" for k, v in e.items()) + f"</{g}>" for g, e in groups.items())
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<LANDSAT_METADATA_FILE>{inner}</LANDSAT_METADATA_FILE>'


def level2(made, folder):
    """A Level-2 product on the grid of a Level-1 product: ST_B10 in kelvin, SR_B2 to SR_B7, QA_PIXEL."""
    folder.mkdir()
    text = next(made.glob("*_MTL.txt")).read_text()
    groups = groups_of(text)
    contents = groups["PRODUCT_CONTENTS"]
    files = {"BAND_ST_B10": "ST_B10", "QUALITY_L1_PIXEL": "QA_PIXEL"} | {f"BAND_{n}": f"SR_B{n}" for n in range(2, 8)}
    contents = {key: value for key, value in contents.items() if not key.startswith(("FILE_NAME", "DATA_TYPE"))}
    contents |= {"LANDSAT_PRODUCT_ID": LEVEL_2, "PROCESSING_LEVEL": "L2SP"}
    contents |= {f"FILE_NAME_{key}": f"{LEVEL_2}_{band}.TIF" for key, band in files.items()}
    groups["PRODUCT_CONTENTS"] = contents
    groups["LEVEL2_SURFACE_TEMPERATURE_PARAMETERS"] = {
        "TEMPERATURE_MULT_BAND_ST_B10": "0.00341802", "TEMPERATURE_ADD_BAND_ST_B10": "149.0"}  # fmt: skip
    groups["LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"] = {
        f"REFLECTANCE_{part}_BAND_{n}": value for n in range(2, 8) for part, value in (("MULT", "2.75e-05"), ("ADD", "-0.2"))}  # fmt: skip
    lines = ["GROUP = LANDSAT_METADATA_FILE"]
    for name, entries in groups.items():
        lines += [
            f"  GROUP = {name}",
            *(f'    {key} = "{value}"' for key, value in entries.items()),
            f"  END_GROUP = {name}",
        ]
    (folder / f"{LEVEL_2}_MTL.txt").write_text("\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""]))
    for band in files.values():
        source = made / f"{PRODUCT_ID}_{band.removeprefix('SR_').removeprefix('ST_')}.TIF"
        with rasterio.open(source) as dataset:
            numbers, profile = dataset.read(1), dataset.profile
        if band == "ST_B10":
            numbers = ((temperature(numbers.shape) - 149) / 0.00341802).round().astype("u2")
        elif band.startswith("SR"):
            numbers = (numbers.astype("f8") * 0.7 + 7000).round().astype("u2")
        with rasterio.open(folder / f"{LEVEL_2}_{band}.TIF", "w", **profile) as dataset:
            dataset.write(numbers, 1)


def _waters(folder):
    values, _ = lake_scene((SIDE, SIDE), rows=slice(10, 30), cols=slice(8, 32))
    with rasterio.open(folder / "four.tif", "w", driver="GTiff", count=4, height=SIDE, width=SIDE, dtype="float32", nodata=np.nan, crs=CRS, transform=PLACE) as made:  # fmt: skip
        made.write(values.astype("f4"))
        made.descriptions = BANDS
    shutil.copy(folder / "four.tif", folder / "later.tif")
    colours = (np.moveaxis(values[2::-1], 0, -1) * 900).clip(0, 255).astype("u1")
    Image.fromarray(colours).save(folder / "picture.png")
    Image.fromarray(colours).save(folder / "picture.jpg", quality=95)


def _pictures(folder):
    rng = np.random.default_rng(5)
    rows, cols = np.indices((48, 56))
    colours = np.stack([128 + 100 * np.sin(rows / 9 + c) * np.cos(cols / 8 - c) for c in range(3)], -1)
    picture = Image.fromarray((colours + rng.normal(0, 4, colours.shape)).clip(0, 255).astype("u1"))
    hidden = Image.fromarray(np.where(np.hypot(rows - 24, cols - 30) < 8, 255, 0).astype("u1"))
    for name, options in (
        ("rgb.png", {}),
        ("rgb.jpg", {"quality": 92}),
        ("rgb.tif", {"compression": "tiff_lzw"}),
        ("rgb.webp", {"lossless": True}),
    ):
        picture.save(folder / name, **options)
    picture.convert("L").save(folder / "grey.png")
    alpha = picture.convert("RGBA")
    alpha.putalpha(Image.eval(hidden, lambda v: 255 - v // 2))
    alpha.save(folder / "rgba.png")
    picture.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "palette.png")
    Image.fromarray((colours[..., 0] * 200).clip(0, 65535).astype("u2")).save(folder / "grey16.png")
    hidden.save(folder / "mask.png")
    hidden.convert("1").save(folder / "mask1.png")
    Image.merge("RGB", [hidden] * 3).save(folder / "mask_rgb.png")


def tiny_segmenter():
    """A segmenter of few, random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = WaterSegDiff(SegmenterConfig(sample_size=32, condition_widths=(16, 32, 32), widths=(16, 32, 32)))
    card = Card(summary="for tests", licence="none")
    schedule = NoiseSchedule.cosine(1000)
    return SegmentationModel(name="water", network=network.eval(), schedule=schedule, prediction="x_0", card=card)


def _models(folder):
    save_model(folder / "lst", tiny_model())
    save_model(folder / "picture", tiny_picture_model())
    save_model(folder / "water", tiny_segmenter())


def _checkpoints(folder):
    state = guided_state()
    torch.save(state, folder / "guided.pt")
    from safetensors.torch import save_file

    save_file({key: value.contiguous() for key, value in state.items()}, folder / "guided.safetensors")
    (folder / "guided.json").write_text(json.dumps(ARCHITECTURE))
    save_diffusers_folder(folder / "diffusers", 32)


def _sets(folder):
    """What is trained from and evaluated on."""
    from water_sets import make_sets

    for name in ("lst", "faces", "clouds"):
        (folder / name).mkdir()
    for seed, name in enumerate(("hill_20200101", "lake_20200301", "town_20210301")):
        write(folder / "lst" / f"{name}.tif", temperature((48, 48), seed).astype("f4"), nodata=np.nan)
    write(folder / "clouds" / "a_mask.tif", gap((64, 64)).astype("u1"))
    rng = np.random.default_rng(1)
    for number in range(3):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).resize((64, 64)).save(
            folder / "faces" / f"{number}.png"
        )
    make_sets(folder / "water")
    arrays = {}
    for grid, place in enumerate(("hill", "lake", "town")):
        for year in (2020, 2021):
            counts = (100 * temperature((40, 48), grid + year)).astype(np.uint16)
            arrays[f"lst/{place}_{year}"] = np.diff(counts, axis=1, prepend=np.uint16(0))
            arrays[f"at/{place}_{year}"] = np.array([grid, 0, 0], np.int32)
    stored = io.BytesIO()
    np.savez_compressed(stored, **arrays)
    (folder / "pack.npz").write_bytes(stored.getvalue())


def zones():
    """Two polygons on the rasters."""
    import geopandas
    import shapely

    shapes = [shapely.box(500100, 5199200, 500700, 5199700), shapely.Point(500800, 5199300).buffer(200)]
    return geopandas.GeoDataFrame({"name": ["a", "b"]}, geometry=shapes, crs=CRS)


def _zones(root):
    """A raster with its samples, and polygons in every format."""
    from lacunar.fill.inputs import FillInputs
    from lacunar.fill.job import fill_scene
    from lacunar.fill.options import FillOptions
    from lacunar.fill.outputs import OutputFiles

    inputs = FillInputs(path=root / "rasters" / "gtiff.tif", kind="raster")
    how = FillOptions(model=str(root / "models/lst"), sampler="ddim", evaluations=1, samples=3, realisations=True)
    fill_scene(inputs, OutputFiles(raster=root / "zones" / "filled.tif"), how)
    for ending in ("gpkg", "geojson", "shp"):
        zones().to_file(root / "zones" / f"polygons.{ending}")
