"""Cases of whole files that say odd things: types, nodata, scales, grids, bands, words; the right answer is known."""

import warnings

import numpy as np
import rasterio
from files import RASTERS, fill, give_zones, inpaint, lst, water, zonal
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine
from trial import Case
from world import BANDS, CRS, PLACE, gap, temperature, write, zones

from water_models import lake_scene

UNDECLARED = (-9999.0, -32768.0, float(np.finfo("f4").min), -3.4e38, 0.0, 1e20)
SHAPES = ((40, 40), (40, 40), (40, 40), (1, 1), (1, 2), (2, 1), (1, 300), (300, 1), (3, 3), (17, 5), (2, 200))
TRANSFORMS = {
    "north up": PLACE,
    "rotated": PLACE @ Affine.rotation(30),
    "south up": Affine(30, 0, 500000, 0, 30, 5100000),
    "sheared": Affine(30, 9, 500000, 4, -30, 5200000),
    "transposed": Affine(0, 30, 500000, 30, 0, 5200000),
    "singular": Affine(30, 30, 500000, 30, 30, 5200000),
    "without area": Affine(0, 0, 0, 0, 0, 0),
    "NaN": Affine(float("nan"), 0, 500000, 0, -30, 5200000),
    "infinite": Affine(float("inf"), 0, 500000, 0, -30, 5200000),
    "tiny": Affine(1e-300, 0, 0, 0, -1e-300, 0),
    "huge": Affine(1e300, 0, 0, 0, -1e300, 0),
    "none": Affine.identity(),
}
SYSTEMS = (CRS, CRS, CRS, None, "EPSG:4326", "EPSG:3031", "EPSG:3857", 'LOCAL_CS["x",UNIT["m",1]]')


def odd_raster(rng, world, folder):
    """A single-band raster for `fill`, with what each pixel means."""
    shape = SHAPES[int(rng.integers(len(SHAPES)))]
    dtype = str(rng.choice(["float32", "float32", "float64", "int16", "uint16", "int32", "uint8"]))
    plain = rng.random() < 0.3
    named = "north up" if plain else str(rng.choice(list(TRANSFORMS)))
    crs = CRS if plain else SYSTEMS[int(rng.integers(len(SYSTEMS)))]
    scale, offset = (1.0, 0.0) if plain or rng.random() < 0.6 else [(0.01, 0), (0.00341802, 149), (-1, 0), (0, 5), (float("nan"), 0), (float("inf"), 0), (1e300, 0), (1e-320, 0), (1, 1e300)][int(rng.integers(9))]  # fmt: skip
    kelvin = temperature(shape, int(rng.integers(1000)))
    stored = kelvin if dtype.startswith("float") else (kelvin - 273.15) * (3 if dtype == "uint8" else 10) + 20
    hidden, what = (
        gap(shape),
        [f"{dtype} {shape[0]}x{shape[1]}", named, str(crs)[:12], f"scale {scale:g} offset {offset:g}"],
    )
    way = str(rng.choice(["declared", "nan", "undeclared", "constant", "infinite", "all", "none", "few"]))
    nodata, fill_value = None, np.nan
    if not dtype.startswith("float") and way in ("nan", "infinite", "undeclared"):
        way = "declared"
    if way == "declared":
        nodata = fill_value = float(rng.choice({"uint8": [0, 255], "uint16": [0, 65535]}.get(dtype, [-9999, 0])))
    elif way == "undeclared":
        fill_value = float(rng.choice(UNDECLARED))
    elif way == "constant":
        stored, nodata = np.full(shape, 290 if dtype.startswith("float") else 90), 0.0
        fill_value = 0.0
    elif way == "infinite":
        fill_value = float(rng.choice([np.inf, -np.inf, 1e39 if dtype == "float64" else np.inf]))
    elif way == "all":
        hidden[:], nodata, fill_value = True, 0.0, 0.0
    elif way == "none":
        hidden[:] = False
    elif way == "few":
        hidden = np.ones(shape, bool)
        hidden.flat[: int(rng.integers(1, 4))] = False
        nodata = fill_value = 0.0
    units = "" if way != "undeclared" and rng.random() < 0.5 else "K"
    with np.errstate(all="ignore"):
        numbers = np.where(hidden, fill_value, stored).astype(dtype)
    path = folder / "in" / "raster.tif"
    path.parent.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        profile = {"driver": "GTiff", "height": shape[0], "width": shape[1], "count": 1, "dtype": dtype, "crs": crs}
        with rasterio.open(path, "w", transform=TRANSFORMS[named], nodata=nodata, **profile) as made:
            made.write(numbers, 1)
            made.scales, made.offsets, made.units = [scale], [offset], [units]
    if not plain and rng.random() < 0.2:
        what.append(not_utf8(path))
    with np.errstate(all="ignore"):
        meant = (numbers if (scale, offset) == (1.0, 0.0) else numbers * np.float64(scale) + offset).astype(np.float32)
    known = ~hidden & np.isfinite(meant) & ((numbers != nodata) if nodata is not None else True)
    more = () if rng.random() < 0.9 else ("--figure", "out/filled.png")
    must = (
        plain
        and way in ("declared", "nan")
        and shape == (40, 40)
        and (scale, offset) == (1.0, 0.0)
        and dtype != "uint8"
    )

    def check(out):
        return wrong_fill(out / "filled.tif", meant, known, ~known, TRANSFORMS[named])

    return Case(
        "odd meaning",
        "raster",
        ", ".join([way, f"fill {fill_value:g}", *what]),
        fill(world, RASTERS, *more),
        check,
        must,
    )


def wrong_fill(path, values, known, missing, transform=None):
    """What is wrong with a filled raster, beside what its input means; None where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as made:
            value, source, sigma = made.read([1, 2, 3])
            placed = made.transform
    if value.shape != known.shape:
        return f"{value.shape} for {known.shape}"
    if transform is not None and not _same(placed, transform):
        return f"the grid is {tuple(placed)[:6]}"
    if (source[missing] == 1).any():
        return f"{int((source[missing] == 1).sum())} missing pixels count as measured"
    kept = known & (source == 1)  # values that no kelvin can have may be missing, with a note
    if (value[kept] != values[kept]).any():
        return "a measured pixel has changed"
    if (sigma[kept] < 0).any() or not np.isfinite(sigma[kept]).all():
        return "sigma of a measured pixel is below 0 or NaN"
    filled = source == 2
    if not np.isfinite(value[filled]).all():
        return f"{int((~np.isfinite(value[filled])).sum())} filled pixels are not finite"
    if not (np.isfinite(sigma[filled]) & (sigma[filled] > 0)).all():
        return f"sigma of {int((~(sigma[filled] > 0)).sum())} filled pixels is 0 or NaN"
    return None


def _same(placed, transform):
    """Whether a grid is kept; one that is not finite or has no area is none."""
    kept = np.array(placed)[:6], np.array(transform)[:6]
    return not np.isfinite(kept[1]).all() or transform.determinant == 0 or np.allclose(*kept, rtol=1e-9, atol=1e-9)


def not_utf8(path):
    """Put bytes into a description or unit that are no UTF-8."""
    with rasterio.open(path, "r+") as made:
        made.descriptions = ["QQQQQQQQ", *["x"] * (made.count - 1)]
    data = path.read_bytes()
    path.write_bytes(data.replace(b"QQQQQQQQ", b"\xff\xfe\xe9\x80caf\xe9", 1))
    return "description is no UTF-8"


def odd_guide(rng, world, folder):
    """A reference, covariate or gap mask with an odd grid or odd values beside a good raster."""
    option = str(rng.choice(["reference", "covariate", "gap-mask", "truth"]))
    world.give("rasters/gtiff.tif", folder, "raster.tif")
    named = str(rng.choice(list(TRANSFORMS)))
    shape = SHAPES[int(rng.integers(len(SHAPES)))]
    values = temperature(shape, 3) if option != "gap-mask" else gap(shape).astype("f8")
    way = str(rng.choice(["plain", "NaN", "-9999", "0", "infinite", "constant", "uint8", "two bands"]))
    if way in ("NaN", "-9999", "0", "infinite"):
        values[gap(shape)] = {"NaN": np.nan, "-9999": -9999, "0": 0, "infinite": np.inf}[way]
    elif way == "constant":
        values[:] = 290
    bands = values.astype("u1" if way == "uint8" else "f4")
    bands = np.stack([bands] * 2) if way == "two bands" else bands
    path = write(
        folder / "in" / "other.tif", bands, transform=TRANSFORMS[named], crs=SYSTEMS[int(rng.integers(len(SYSTEMS)))]
    )
    odd = not_utf8(path) if rng.random() < 0.15 else ""
    with rasterio.open(folder / "in" / "raster.tif") as given:
        meant, known = given.read(1), given.read_masks(1) != 0
    masked = option == "gap-mask"

    def check(out):
        hidden = np.zeros_like(known) if masked else ~known
        return wrong_fill(out / "filled.tif", meant, known, hidden, PLACE)

    command = fill(world, RASTERS, f"--{option}", "in/other.tif")
    return Case("odd meaning", option.replace("-", " "), f"{way}, {named}, {shape[0]}x{shape[1]} {odd}", command, check)


def ground_control(rng, world, folder):
    """A raster whose place is told by ground control points."""
    path = folder / "in" / "raster.tif"
    path.parent.mkdir()
    points = [GroundControlPoint(r, c, 7.0 + c / 900 + r / 5000, 46.0 - r / 900, 0) for r in (0, 39) for c in (0, 39)]
    values = np.where(gap(), np.nan, temperature()).astype("f4")
    with rasterio.open(path, "w", driver="GTiff", height=40, width=40, count=1, dtype="float32", nodata=np.nan) as made:
        made.write(values, 1)
        made.gcps = (points, rasterio.crs.CRS.from_epsg(4326))

    def check(out):
        with rasterio.open(out / "filled.tif") as made:
            kept, _ = made.gcps
        lost = len(kept) != len(points)
        return "the ground control points are lost" if lost else wrong_fill(out / "filled.tif", values, ~gap(), gap())

    return Case("odd meaning", "raster", "ground control points", fill(world), check)


def odd_image(rng, world, folder):
    """Bands for `water`: types, names, alpha, palettes, scales, sizes, undeclared fill."""
    shape = SHAPES[int(rng.integers(len(SHAPES)))]
    values, _ = lake_scene((60, 70))
    tall, wide = -(-shape[0] // 60), -(-shape[1] // 70)
    values = np.tile(values, (1, tall, wide))[:, : shape[0], : shape[1]]
    dtype, factor = [
        ("float32", 1),
        ("uint16", 10000),
        ("int16", 10000),
        ("uint8", 255),
        ("float64", 1),
        ("float32", 30000),
    ][int(rng.integers(6))]
    count = int(rng.choice([1, 2, 3, 4, 4, 4]))
    numbers = (values[:count] * factor).astype(dtype)
    nothing = np.zeros(shape, bool)
    nothing[:, : max(1, shape[1] // 5)] = True
    way = str(rng.choice(["plain", "plain", "NaN", "declared", "undeclared", "all", "infinite"]))
    nodata = None
    if way == "NaN" and dtype.startswith("f"):
        numbers[:, nothing] = np.nan
    elif way == "declared":
        nodata = 0
        numbers[:, nothing] = 0
    elif way == "undeclared" and dtype.startswith("f"):
        numbers[:, nothing] = float(rng.choice([-9999, -32768, np.finfo("f4").min]))
    elif way == "all":
        nodata, numbers[:] = 0, 0
    elif way == "infinite" and dtype.startswith("f"):
        numbers[:, nothing] = np.inf
    else:
        nothing[:] = False
    named = str(rng.choice(list(TRANSFORMS))) if rng.random() < 0.4 else "north up"
    crs = SYSTEMS[int(rng.integers(len(SYSTEMS)))]
    path = write(folder / "in" / "image.tif", numbers, transform=TRANSFORMS[named], crs=crs, nodata=nodata) if (folder / "in").mkdir() is None else None  # fmt: skip
    words = [
        BANDS[:count],
        ("B2", "B3", "B4", "B8")[:count],
        (),
        ("lst", "source", "sigma", "x")[:count],
        ("ndvi",) * count,
    ][int(rng.integers(5))]
    with rasterio.open(path, "r+") as made:
        if words:
            made.descriptions = words
        if rng.random() < 0.2:
            made.scales = [float(rng.choice([0.0001, 0, np.nan, 1e300]))] * count
    odd = not_utf8(path) if rng.random() < 0.1 else ""
    more = ["--bands", ",".join(BANDS[:count])] if rng.random() < 0.5 else []
    if rng.random() < 0.3:
        more += ["--polygons", f"out/water.{rng.choice(['gpkg', 'geojson'])}"]
    lst_file = words[:1] == ("lst",) and not more

    def check(out):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with rasterio.open(out / "water.tif") as made:
                water_class, probability, placed = made.read(1), made.read(2), made.transform
        if lst_file:
            return "an LST file is mapped as if it were an image"
        if not set(np.unique(water_class)) <= {0, 1, 255}:
            return f"classes {np.unique(water_class)[:5]}"
        if (water_class[nothing] != 255).any():
            return f"{int((water_class[nothing] != 255).sum())} pixels without data are mapped"
        valid = water_class != 255
        if not ((probability[valid] >= 0) & (probability[valid] <= 1)).all():
            return "a probability outside 0 to 1"
        return None if _same(placed, TRANSFORMS[named]) else f"the grid is {tuple(placed)[:6]}"

    what = f"{way}, {dtype} {count}x{shape[0]}x{shape[1]}, {named}, {words[:1]} {odd}"
    return Case("odd meaning", "image", what, water(world, "in/image.tif", *more), check)


def odd_picture(rng, world, folder):
    """Pictures and masks of every mode and size, and masks that mean something else."""
    (folder / "in").mkdir()
    height, width = SHAPES[int(rng.integers(len(SHAPES)))]
    base = Image.open(world / "pictures/rgb.png").resize((width, height))
    mode = str(rng.choice(["RGB", "RGB", "L", "RGBA", "LA", "P", "1", "I;16", "CMYK", "F", "I", "YCbCr"]))
    ending = str(rng.choice(["png", "png", "tif", "jpg", "webp"]))
    try:
        picture = base.convert("L").convert(mode) if mode in ("I;16", "F", "I") else base.convert(mode)
        picture.save(folder / "in" / f"picture.{ending}")
    except (OSError, ValueError):
        picture, mode, ending = base, "RGB", "png"
        picture.save(folder / "in" / "picture.png")
    form = str(rng.choice(["white", "white", "0 and 1", "inverted", "grey", "all", "none", "RGBA", "other size", "F"]))
    hidden = gap((height, width))
    hidden[0, 0] = False
    drawn = Image.fromarray(np.where(hidden, 255, 0).astype("u1"))
    drawn = {
        "0 and 1": lambda: drawn.point(lambda v: v // 255),
        "inverted": lambda: drawn.point(lambda v: 255 - v),
        "grey": lambda: drawn.point(lambda v: 100 + v // 3),
        "all": lambda: drawn.point(lambda v: 255),
        "none": lambda: drawn.point(lambda v: 0),
        "RGBA": lambda: drawn.convert("RGBA"),
        "other size": lambda: drawn.resize((width + 1, height)),
    }.get(form, lambda: drawn)()
    drawn.save(folder / "in" / "mask.png")
    must = (mode, ending, form) == ("RGB", "png", "white") and (height, width) == (40, 40)
    exact = ending in ("png", "tif") and form in ("white", "RGBA", "F") and mode in ("RGB", "L", "RGBA", "LA")
    name = f"out/filled.{ending}"

    def check(out):
        with Image.open(out / f"filled.{ending}") as made:
            if made.size != (width, height):
                return f"{made.size} for {(width, height)}"
            if not exact:
                return None
            got = np.asarray(made.convert(picture.mode) if made.mode != picture.mode else made)
        kept = np.asarray(picture)
        return None if (got[~hidden] == kept[~hidden]).all() else "a pixel outside the mask has changed"

    command = inpaint(world, f"in/picture.{ending}", output=name)
    return Case("odd meaning", "picture", f"{mode} {ending} {width}x{height}, mask {form}", command, check, must)


def odd_product(rng, world, folder):
    """Numbers of a product's bands: all fill, holes of one band, saturated, another size or type, quality bits."""
    level = int(rng.integers(1, 3))
    product = world.give(f"products/level{level}", folder, "product")
    thermal = next(product.glob("*_B10.TIF"))
    victim = (
        sorted(product.glob("*.TIF"))[int(rng.integers(len(list(product.glob("*.TIF")))))]
        if rng.random() < 0.5
        else thermal
    )
    with rasterio.open(victim) as dataset:
        numbers, profile = dataset.read(1), dict(dataset.profile)
    way = str(rng.choice(["holes", "all fill", "saturated", "float", "half size", "moved", "nodata 7", "plain"]))
    hidden = gap(numbers.shape)
    if way == "holes":
        numbers[hidden] = 0
    elif way == "all fill":
        numbers[:] = 0
    elif way == "saturated":
        numbers[hidden] = 65535
    elif way == "float":
        numbers, profile["dtype"] = numbers.astype("f4"), "float32"
        profile["predictor"] = 1
    elif way == "half size":
        numbers = numbers[::2, ::2]
        profile |= {"height": numbers.shape[0], "width": numbers.shape[1]}
    elif way == "moved":
        profile["transform"] @= Affine.translation(1, 0)
    elif way == "nodata 7":
        profile["nodata"] = 7
    victim.unlink()
    profile = {key: value for key, value in profile.items() if key not in ("blockxsize", "blockysize", "tiled")}
    with rasterio.open(victim, "w", **profile) as dataset:
        dataset.write(numbers, 1)
    holes = hidden if way == "holes" and victim == thermal else np.zeros_like(hidden)

    def check(out):
        with rasterio.open(out / "lst.tif") as made:
            value, source, sigma = made.read([1, 2, 3])
        if value.shape != (64, 64):
            return f"{value.shape}"
        if holes.any() and (source[holes] == 1).any():
            return "a hole counts as measured"
        if holes.any() and level == 2 and (source[holes] == 0).any():
            return f"{int((source[holes] == 0).sum())} holes inside the footprint stay nodata"
        filled = source == 2
        good = np.isfinite(value[filled]) & (sigma[filled] > 0) & np.isfinite(sigma[filled])
        return None if good.all() else f"{int((~good).sum())} filled pixels without a value or a sigma"

    if way == "holes" and victim == thermal:
        write(folder / "in" / "mask.tif", hidden.astype("u1"), **_grid_of(product))
        return Case("odd meaning", f"product, level {level}", "holes of the thermal band, named by the mask", lst(world, "in/product", "--gap-mask", "in/mask.tif"), check)  # fmt: skip
    return Case(
        "odd meaning", f"product, level {level}", f"{victim.stem[-8:]}: {way}", lst(world), check, way == "plain"
    )


def _grid_of(product):
    with rasterio.open(next(product.glob("*_B10.TIF"))) as dataset:
        return {"crs": dataset.crs, "transform": dataset.transform}


def odd_polygons(rng, world, folder):
    """Polygons that are empty, elsewhere, of other kinds, without a CRS, or with coordinates that are no numbers."""
    import geopandas
    import shapely

    give_zones(world, folder, "none")
    good = zones()
    way = str(rng.choice(["plain", "empty shape", "null", "points", "lines", "no CRS", "elsewhere", "huge", "self-crossing", "none", "3D", "columns", "another CRS", "world", "text"]))  # fmt: skip
    odd = {
        "empty shape": shapely.Polygon(),
        "null": None,
        "points": shapely.Point(500300, 5199300),
        "lines": shapely.LineString([(500100, 5199200), (500700, 5199700)]),
        "elsewhere": shapely.box(0, 0, 10, 10),
        "huge": shapely.box(-1e300, -1e300, 1e300, 1e300),
        "self-crossing": shapely.Polygon([(500100, 5199200), (500700, 5199700), (500700, 5199200), (500100, 5199700)]),
        "3D": shapely.Polygon([(500100, 5199200, 1), (500700, 5199700, 2), (500700, 5199200, float("nan"))]),
        "world": shapely.box(-180, -90, 180, 90),
    }
    if way in odd:
        good = geopandas.GeoDataFrame({"name": ["a", "b"]}, geometry=[good.geometry[0], odd[way]], crs=good.crs)
    elif way == "no CRS":
        good = good.set_crs(None, allow_override=True)
    elif way == "none":
        good = good.iloc[:0]
    elif way == "columns":
        good = good.assign(mean=1.0)
    elif way == "another CRS":
        good = good.to_crs(int(rng.choice([4326, 3857, 3031, 2056])))
    if way == "world":
        good = good.set_crs(4326, allow_override=True)
    path = folder / "in" / f"polygons.{rng.choice(['gpkg', 'geojson', 'shp'])}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            good.to_file(path)
        except Exception:  # a format that cannot hold it
            way = "text"
    if way == "text":
        path.write_text("no polygons")
    command = zonal(f"in/{path.name}", f"out/zones.{rng.choice(['gpkg', 'geojson', 'csv'])}")
    return Case("odd meaning", "polygons", f"{way} {path.suffix}", command, must_pass=way == "plain")


MAKERS = (
    odd_raster,
    odd_raster,
    odd_raster,
    odd_guide,
    odd_guide,
    odd_image,
    odd_image,
    odd_picture,
    odd_product,
    odd_polygons,
    ground_control,
)


def odd(rng, world, folder):
    """One of them."""
    return MAKERS[int(rng.integers(len(MAKERS) if rng.random() < 0.3 else len(MAKERS) - 1))](rng, world, folder)
