"""Cases of damaged files: every format that is read, in every role that it can have."""

import hashlib
import json

from damage import damage
from trial import Case

ENGINE = ("--backend", "eager", "--device", "cpu")
RASTERS = "in/raster.tif"


def fill(world, source="in/raster.tif", *more):
    """The quickest fill there is."""
    return [
        "fill",
        source,
        "-o",
        "out/filled.tif",
        "--preset",
        "instant",
        "--model",
        str(world / "models/lst"),
        *ENGINE,
        *more,
    ]


def lst(world, source="in/product", *more):
    """Of a product."""
    return [
        "lst",
        source,
        "-o",
        "out/lst.tif",
        "--preset",
        "instant",
        "--model",
        str(world / "models/lst"),
        *ENGINE,
        *more,
    ]


def water(world, source="in/image.tif", *more):
    """A map of water by a tiny model."""
    quick = ("--samples", "1", "--steps", "1")
    return ["water", source, "-o", "out/water.tif", "--model", str(world / "models/water"), *quick, *ENGINE, *more]


def inpaint(world, source="in/picture.png", mask="in/mask.png", *more, output="out/filled.png"):
    """A filled picture."""
    model = str(world / "models/picture")
    return ["inpaint", source, "--mask", mask, "-o", output, "--model", model, "--preset", "instant", *ENGINE, *more]


def face(world, source="in/picture.png", mask="in/mask.png"):
    """A picture that is a face from edge to edge."""
    return ["face", *inpaint(world, source, mask)[1:], "--whole", "--detail", "none"]


def damaged(rng, world, folder):
    """A case with one damaged file; the choice of role and format is drawn."""
    make = ROLES[int(rng.integers(len(ROLES)))]
    role, command, victims = make(rng, world, folder)
    victim = victims[int(rng.integers(len(victims)))]
    said = damage(rng, victim)
    return Case("damaged bytes", role, said, command, free=command[0] == "train")


def zonal(source="in/polygons.gpkg", output="out/zones.gpkg"):
    """Means over polygons."""
    return ["zonal", "in/filled.tif", source, "-o", output]


def give_zones(world, folder, ending="gpkg"):
    """A filled raster with its samples, and polygons."""
    for name in ("filled.tif", "filled_realisations.tif"):
        world.give(f"zones/{name}", folder)
    for path in (world / "zones").glob("polygons.*"):
        if path.suffix == f".{ending}" or (ending == "shp" and path.suffix not in (".gpkg", ".geojson")):
            (folder / "in" / path.name).write_bytes(path.read_bytes())


def _one(rng, folder, pattern):
    found = sorted(path for path in folder.glob(pattern) if path.is_file())
    return found[int(rng.integers(len(found)))]


def _beside(path):
    """A file and what belongs to it."""
    return sorted(other for other in path.parent.glob(f"{path.stem}.*") if other.is_file())


def _raster(rng, world, folder):
    source = _one(rng, world / "rasters", "*")
    while source.suffix in (".xml", ".hdr", ".prj") or source.stem in ("reference", "covariate", "mask", "truth"):
        source = _one(rng, world / "rasters", "*")
    path = world.give(f"rasters/{source.name}", folder, f"raster{source.suffix}")
    return f"raster {source.suffix[1:]}", fill(world, f"in/{path.name}"), _beside(path)


def _beside_a_raster(rng, world, folder):
    option = str(rng.choice(["reference", "covariate", "gap-mask", "truth"]))
    world.give("rasters/gtiff.tif", folder, "raster.tif")
    path = world.give(f"rasters/{option.removeprefix('gap-')}.tif", folder)
    return option.replace("gap-mask", "gap mask"), fill(world, RASTERS, f"--{option}", f"in/{path.name}"), [path]


def _product_folder(rng, world, folder):
    level = int(rng.integers(1, 3))
    path = world.give(f"products/level{level}", folder, "product")
    command = lst(world) if rng.random() < 0.8 else water(world, "in/product")
    return f"product, level {level}", command, sorted(path.iterdir())


def _metadata(rng, world, folder):
    form = str(rng.choice(["level1", "level2", "level1_json", "level1_xml"]))
    path = world.give(f"products/{form}", folder, "product")
    command = lst(world) if rng.random() < 0.8 else water(world, "in/product")
    return f"metadata {next(path.glob('*MTL*')).suffix[1:]}", command, [next(path.glob("*MTL*"))]


def _archive(rng, world, folder):
    name = str(rng.choice(["plain.tar", "zipped.tar.gz", "small.tar.xz", "pax.tar", "product.zip"]))
    path = world.give(f"products/{name}", folder)
    return f"archive {name.partition('.')[2]}", lst(world, f"in/{name}"), [path]


def _image(rng, world, folder):
    name = str(rng.choice(["four.tif", "picture.png", "picture.jpg"]))
    path = world.give(f"waters/{name}", folder, f"image.{name[-3:]}")
    command = water(world, f"in/{path.name}")
    if rng.random() < 0.3:
        command += ["--polygons", "out/water.gpkg"]
    return f"image {path.suffix[1:]}", command, [path]


def _dates(rng, world, folder):
    for name in ("four.tif", "later.tif"):
        world.give(f"waters/{name}", folder)
    command = water(world, "in/four.tif", "in/later.tif", "--change")
    command[command.index("out/water.tif")] = "out/change"
    return "date", command, [folder / "in" / "later.tif"]


def _picture(rng, world, folder):
    name = str(
        rng.choice(["rgb.png", "rgb.jpg", "rgb.tif", "rgb.webp", "rgba.png", "grey.png", "palette.png", "grey16.png"])
    )
    path = world.give(f"pictures/{name}", folder, f"picture.{name.rpartition('.')[2]}")
    world.give("pictures/mask.png", folder)
    make = inpaint if rng.random() < 0.7 else face
    return f"picture {path.suffix[1:]}", make(world, f"in/{path.name}"), [path]


def _mask(rng, world, folder):
    name = str(rng.choice(["mask.png", "mask1.png", "mask_rgb.png"]))
    world.give("pictures/rgb.png", folder, "picture.png")
    path = world.give(f"pictures/{name}", folder, "mask.png")
    return "mask", (inpaint if rng.random() < 0.7 else face)(world), [path]


def _model(rng, world, folder):
    kind = str(rng.choice(["lst", "picture", "water"]))
    path = world.give(f"models/{kind}", folder, "model")
    if kind == "lst":
        world.give("rasters/gtiff.tif", folder, "raster.tif")
        command = fill(world)
    elif kind == "water":
        world.give("waters/four.tif", folder, "image.tif")
        command = water(world)
    else:
        world.give("pictures/rgb.png", folder, "picture.png")
        world.give("pictures/mask.png", folder)
        command = inpaint(world)
    command[command.index("--model") + 1] = "in/model"
    if rng.random() < 0.5:  # the card is right about damaged weights, so that what reads them is reached
        said = damage(rng, path / "model.safetensors") if rng.random() < 0.7 else ""
        card = json.loads((path / "card.json").read_text())
        card["sha256"] = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
        (path / "card.json").write_text(json.dumps(card))
        if said:
            return f"model of {kind}", command, [path / "README.md"]
    return f"model of {kind}", command, sorted(path.glob("*.*"))


def _checkpoint(rng, world, folder):
    name = str(rng.choice(["guided.pt", "guided.safetensors", "guided.json", "diffusers"]))
    for one in ("guided.pt", "guided.json", "diffusers"):
        world.give(f"checkpoints/{one}", folder)
    source = "in/diffusers" if name == "diffusers" else "in/guided.pt" if name == "guided.json" else f"in/{name}"
    command = ["convert", source, "out/model", *(("--architecture", "in/guided.json") if name != "diffusers" else ())]
    victims = sorted((folder / "in" / "diffusers").rglob("*.*")) if name == "diffusers" else [folder / "in" / name]
    return f"checkpoint {name.partition('.')[2] or name}", command, victims


def _list(rng, world, folder):
    for number in (1, 2):
        world.give("rasters/gtiff.tif", folder, f"date{number}.tif")
    (folder / "in" / "list.txt").write_text("# dates\nin/date1.tif\nin/date*.tif\n\n")
    command = fill(world, "@in/list.txt")
    command[command.index("out/filled.tif")] = "out/many"
    victim = "list.txt" if rng.random() < 0.7 else "date2.tif"
    return "list of scenes", command, [folder / "in" / victim]


def _zoned(rng, world, folder):
    ending = str(rng.choice(["gpkg", "geojson", "shp"]))
    give_zones(world, folder, ending)
    command = zonal(f"in/polygons.{ending}", f"out/zones.{rng.choice(['gpkg', 'geojson', 'csv'])}")
    if rng.random() < 0.2:
        return "filled raster", command, sorted((folder / "in").glob("filled*"))
    return f"polygons {ending}", command, sorted((folder / "in").glob("polygons.*"))


def _evaluated(rng, world, folder):
    what = str(rng.choice(["lst", "water", "faces"]))
    path = world.give(f"sets/{what}", folder)
    few = {
        "lst": ["lst", "--rasters", "in/lst", "--masks", "box", "--size", "16", "--per-raster", "1", "--no-sigma"],
        "water": ["water", "--scenes", "in/water", "--methods", "NDWI"],
        "faces": ["face", "--faces", "in/faces", "--size", "16", "--methods", "biharmonic"],
    }[what]
    few += [] if what == "water" else ["--model", "none", "--rates", "0.2"]
    few += ["--methods", "laplace"] if what == "lst" else []
    return (
        f"set of {what}",
        ["evaluate", *few, "-o", "out/quality"],
        sorted(one for one in path.rglob("*.*") if one.is_file()),
    )


def _trained(rng, world, folder):
    what = str(rng.choice(["pack", "lst", "faces", "water"]))
    path = world.give("sets/pack.npz" if what == "pack" else f"sets/{what}", folder)
    world.give("sets/clouds", folder)
    recipe = {"faces": "picture-small", "water": "water-small"}.get(what, "lst-small")
    command = [
        "train",
        recipe,
        "--pack",
        "in/pack.npz" if what == "pack" else "out/pack.npz",
        "--run",
        "out/run",
        "--steps",
        "1",
    ]
    command += [] if what == "pack" else ["--data", f"in/{what}"]
    command += ["--clouds", "in/clouds"] if what == "lst" else []
    return (
        f"training {what}",
        command,
        [path] if what == "pack" else sorted(one for one in path.rglob("*.*") if one.is_file()),
    )


_QUICK = (_raster, _raster, _beside_a_raster, _beside_a_raster, _product_folder, _metadata, _metadata, _archive, _archive,
          _image, _picture, _picture, _mask, _model, _model, _checkpoint, _checkpoint, _list, _dates, _zoned)  # fmt: skip
ROLES = (*_QUICK * 2, _evaluated, _trained)
