"""Cases of what is typed and of what the file system does: odd values for every option, odd names, disks that refuse."""

import os
import shutil

import typer.main
from files import RASTERS, face, fill, give_zones, inpaint, lst, water, zonal
from trial import Case, as_nobody, full_disk

from lacunar.cli import app

POOL = (
    "", " ", "0", "-1", "1e12", "1000000000000", "nan", "inf", "-inf", "1e-320", "a**b/*", "**", "[", "{}", "{0.__class__}",
    "\u202e", "x" * 244, "x" * 5000, "in/none", "@in/none", "@", "@in", "in", ".", "..", "/", "/dev/null", "999999999999999999999",
    ",", ",,", "0.5,0.5", "0.5,,0.1", "true", "☃", "%s%n", "--", "-", "a\nb", "None", "in/raster.tif", "in/list.txt", "red,red",
    "blue,green,red,nir", "1,2,3,4", "0,0,0,0", "nan,0,1,1", "1e308", "4", "2", "fast", "paper", "cuda:99", "out/x.png", "out/x.pdf",
    "out/none/x.tif", "out", "out/a b'\"`$(x).tif", "\udcff\udcfe", "in/loop", "local:0", "local:-3", "tcp://127.0.0.1:1", "all",
    "out/x.tif", "x.json", "a" * 240 + ".tif", "out/{}.tif", "out/%d.tif", "out/[a].tif", "out/-.tif", "~", "~nobody/x", "vrt://in/raster.tif",
)  # fmt: skip
# Values of these options start work that takes minutes and is what was asked for.
SLOW = {"paper"}


def _parameters():
    """Options of every command by its name, as Typer knows them; evaluate's too."""
    found, root = {}, typer.main.get_command(app)
    for name, command in root.commands.items():
        inner = getattr(command, "commands", None)
        for sub, one in inner.items() if inner else [(None, command)]:
            found[(name, sub) if sub else (name,)] = [p for p in one.params if p.param_type_name == "option"]
    return found


PARAMETERS = _parameters()


def everything(world, folder):
    """All that the commands may name."""
    world.give("rasters/gtiff.tif", folder, "raster.tif")
    world.give("products/level1", folder, "product")
    world.give("waters/four.tif", folder, "image.tif")
    world.give("pictures/rgb.png", folder, "picture.png")
    world.give("pictures/mask.png", folder)
    for name in ("guided.pt", "guided.json"):
        world.give(f"checkpoints/{name}", folder)
    give_zones(world, folder)
    (folder / "in/list.txt").write_text("in/raster.tif\n")
    (folder / "in/loop").symlink_to("loop")


def commands(world):
    """One good command of each kind."""
    few = ["--model", "none", "--rates", "0.2", "--size", "16"]
    return [
        fill(world), fill(world), lst(world), lst(world), water(world), water(world), inpaint(world), face(world),
        ["convert", "in/guided.pt", "out/model", "--architecture", "in/guided.json"],
        ["evaluate", "lst", "--rasters", "in/none", "--masks", "box", *few, "-o", "out/q"],
        ["evaluate", "water", "--scenes", "in/none", "-o", "out/q"], ["evaluate", "face", "--faces", "in/none", *few, "-o", "out/q"],
        ["train", "lst-small", "--pack", "in/none.npz", "--run", "out/run", "--steps", "1"],
        zonal(),
        ["simulate", "out/product", "--size", "64"], ["models"], [],
    ]  # fmt: skip


def options(rng, world, folder):
    """Odd values for one to three options, or for an argument."""
    everything(world, folder)
    choices = commands(world)
    command = list(choices[int(rng.integers(len(choices)))])
    parameters = next((one for key, one in PARAMETERS.items() if tuple(command[: len(key)]) == key), [])
    said = []
    for _ in range(int(rng.integers(1, 4))):
        value = str(POOL[int(rng.integers(len(POOL)))])
        if parameters and rng.random() < 0.8:
            chosen = parameters[int(rng.integers(len(parameters)))]
            name = chosen.opts[-1]
            if chosen.is_flag or name in ("--help", "--cluster") or value in SLOW:
                command.append(name if name not in ("--help", "--cluster") else "--no-such-option")
                said.append(name)
                continue
            if name in command:
                command[command.index(name) + 1] = value
            else:
                command += [name, value]
            said.append(f"{name} {value!r:.40}")
        elif command:
            spot = int(rng.integers(1, len(command))) if len(command) > 1 else 0
            said.append(f"{command[spot]!r:.30} -> {value!r:.40}")
            command[spot] = value
    if "--overwrite" in command:
        command.remove("--overwrite")  # its cases are apart: there the inputs are known
    command = [part.replace("\0", "") for part in command]
    return Case("arguments", command[0] if command else "none", "; ".join(said), command, free=True)


def names(rng, world, folder):
    """Odd names of inputs and outputs, lists of them, links."""
    everything(world, folder)
    at = folder / "in"
    odd = str(
        rng.choice(
            [
                "a b.tif",
                "{}.tif",
                "a{0}.tif",
                "ä☃.tif",
                "x" * 240 + ".tif",
                "-v.tif",
                "a'b\".tif",
                "new\nline.tif",
                "[a].tif",
                "a%20b.tif",
                "a#b.tif",
                "a;b|c.tif",
                ".hidden.tif",
                "tab\t.tif",
                "\udcff.tif",
                "&.tif",
                "$HOME.tif",
                "CON.tif",
            ]
        )
    )
    way = str(
        rng.choice(
            [
                "input",
                "output",
                "list",
                "pattern",
                "link",
                "loop",
                "dangling",
                "output link",
                "output of a folder",
                "product name",
                "mask name",
                "polygons",
            ]
        )
    )
    command = fill(world)
    if way == "input":
        shutil.copy(at / "raster.tif", at / odd)
        command = fill(world, f"in/{odd}")
    elif way == "mask name":
        shutil.copy(at / "mask.png", at / odd.replace(".tif", ".png"))
        command = inpaint(world, mask=f"in/{odd.replace('.tif', '.png')}")
    elif way == "product name":
        shutil.copytree(at / "product", at / odd.replace(".tif", ""))
        command = lst(world, f"in/{odd.replace('.tif', '')}")
    elif way == "output":
        command[command.index("out/filled.tif")] = f"out/{odd}"
    elif way == "polygons":
        command = water(world, "in/image.tif", "--polygons", f"out/{odd.replace('.tif', '.gpkg')}")
    elif way == "list":
        line = str(
            rng.choice(
                [
                    "in/ra\0ster.tif",
                    "@in/list.txt",
                    "a**b/*",
                    "in/" + "x" * 300,
                    "\udcff",
                    "in/*",
                    "in/loop",
                    "",
                    "#",
                    "in/[",
                    "../" * 40 + "x",
                    "/",
                    "~/x",
                    "in/\u202etif",
                ]
            )
        )
        (at / "list.txt").write_bytes(f"in/raster.tif\n{line}\n".encode(errors="surrogateescape"))
        command = fill(world, "@in/list.txt")
        command[command.index("out/filled.tif")] = "out/many"
        odd = line
    elif way == "pattern":
        odd = str(
            rng.choice(
                [
                    "a**b/*",
                    "in/**/*",
                    "**",
                    "in/[a-",
                    "in/?",
                    "in/*[",
                    "in/***",
                    "",
                    "in/**.tif",
                    "*" * 200,
                    "in/raster.tif/*",
                ]
            )
        )
        command = fill(world, odd)
        command[command.index("out/filled.tif")] = "out/many"
    elif way == "loop":
        command = (
            fill(world, "in/loop")
            if rng.random() < 0.5
            else fill(world, RASTERS, f"--{rng.choice(['reference', 'gap-mask', 'truth', 'covariate'])}", "in/loop")
        )
    elif way == "dangling":
        (at / "gone.tif").symlink_to("none.tif")
        command = fill(world, "in/gone.tif")
    elif way == "link":
        (at / "link.tif").symlink_to("raster.tif")
        command = fill(world, "in/link.tif")
    elif way == "output link":
        target = str(rng.choice(["filled.tif", "../in/raster.tif", "none/x.tif", "."]))
        (folder / "out").mkdir()
        (folder / "out/filled.tif").symlink_to(target)
        command += ["--overwrite"] if rng.random() < 0.7 else []
        odd = target
    else:
        command[command.index("out/filled.tif")] = str(
            rng.choice(["out", "", ".", "/", "in", "out/", "in/raster.tif/x.tif"])
        )
        odd = command[command.index("-o") + 1]
    fine = (
        way in ("input", "link") and "\udcff" not in odd and len(odd) < 200 and odd[0] not in ".[-" and "{" not in odd
    )
    return Case("arguments", "names", f"{way} {odd!r:.60}", command, must_pass=fine, free=True)


def overwritten(rng, world, folder):
    """Outputs with the names of inputs, and the leave to replace what exists."""
    way = int(rng.integers(12))
    everything(world, folder)
    at = folder / "in"
    for name in ("reference", "covariate", "mask", "truth"):
        world.give(f"rasters/{name}.tif", folder)
    world.give("products/plain.tar", folder)
    world.give("models/lst", folder, "model")
    guided = fill(
        world,
        RASTERS,
        "--reference",
        "in/reference.tif",
        "--covariate",
        "in/covariate.tif",
        "--gap-mask",
        "in/mask.tif",
        "--truth",
        "in/truth.tif",
        "--overwrite",
    )
    target = str(
        rng.choice(
            [
                "in/raster.tif",
                "in/reference.tif",
                "in/covariate.tif",
                "in/mask.tif",
                "in/truth.tif",
                "in/hard.tif",
                "in/link.tif",
                "in/raster.TIF",
                "in/../in/raster.tif",
            ]
        )
    )
    os.link(at / "raster.tif", at / "hard.tif")
    (at / "link.tif").symlink_to("reference.tif")
    if way <= 5:
        guided[guided.index("out/filled.tif")] = target
        return Case(
            "arguments", "--overwrite", f"-o {target}", guided, free=True, replaced=("in/raster.TIF", "in/hard.tif")
        )
    if way == 6:
        (at / "raster.png").write_bytes((at / "picture.png").read_bytes())
        target = str(rng.choice(["in/picture.png", "in/mask.png"]))
        return Case(
            "arguments",
            "--overwrite",
            f"inpaint -o {target}",
            [*inpaint(world, output=target), "--overwrite"],
            free=True,
        )
    if way == 7:
        (at / "plain.json").write_text("{}")
        target = str(rng.choice(["in/plain.tar", "in/plain.tif"]))
        command = [*lst(world, "in/plain.tar"), "--overwrite"]
        command[command.index("out/lst.tif")] = target
        return Case(
            "arguments", "--overwrite", f"lst of a .tar, -o {target}", command, free=True, replaced=("in/plain.json",)
        )
    if way == 8:
        product = at / "product"
        mtl = next(product.glob("*_MTL.txt"))
        text = mtl.with_suffix(".json")
        shutil.copy(next((world / "products/level1_json").glob("*.json")), text)
        mtl.unlink()
        command = [*lst(world), "--overwrite"]
        command[command.index("out/lst.tif")] = f"in/product/{text.stem}.tif"
        return Case(
            "arguments", "--overwrite", "lst whose record would take the name of the MTL.json", command, free=True
        )
    if way == 9:
        command = [*fill(world), "--overwrite"]
        command[command.index("--model") + 1] = "in/model"
        command[command.index("out/filled.tif")] = str(
            rng.choice(["in/model/config.tif", "in/model/card.tif", "in/model/schedule.tif"])
        )
        return Case("arguments", "--overwrite", "a record in the name of a model's file", command, free=True)
    if way == 10:
        target = str(rng.choice(["in/guided.pt", "in/product", "in", "out", "in/model", "."]))
        return Case(
            "arguments",
            "--overwrite",
            f"convert to {target}",
            ["convert", "in/guided.pt", target, "--architecture", "in/guided.json", "--overwrite"],
            free=True,
            replaced=("in/model",),
        )
    if rng.random() < 0.3:
        target = str(rng.choice(["in/polygons.gpkg", "in/link.gpkg"]))
        (at / "link.gpkg").symlink_to("polygons.gpkg")
        return Case(
            "arguments",
            "--overwrite",
            f"zonal -o {target}",
            [*zonal(output=target), "--overwrite"],
            free=True,
            replaced=("in/link.gpkg",),
        )
    target = str(rng.choice(["in/image.tif", "in/image.gpkg"]))
    command = [*water(world), "--overwrite", "--polygons", "in/image.gpkg"]
    command[command.index("out/water.tif")] = target
    return Case("arguments", "--overwrite", f"water -o {target}", command, free=True)


def disk(rng, world, folder):
    """A disk that is full, folders and files that cannot be read or written, and things that are no files."""
    everything(world, folder)
    for part in (folder, folder / "in"):
        part.chmod(0o777)
    at = folder / "in"
    for path in at.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o777)
    (folder / "out").mkdir(mode=0o777)
    (folder / "out").chmod(0o777)
    choices = [fill(world), lst(world), water(world), inpaint(world), ["convert", "in/guided.pt", "out/model", "--architecture", "in/guided.json"], fill(world, RASTERS, "--resume"), water(world, "in/image.tif", "--polygons", "out/water.gpkg", "--figure", "out/water.png"), fill(world, RASTERS, "--figure", "out/filled.png"), lst(world, "in/product", "--save-bands", "out/bands")]  # fmt: skip
    command = choices[int(rng.integers(len(choices)))]
    way = str(
        rng.choice(
            [
                "full",
                "full",
                "full",
                "read-only output",
                "unreadable input",
                "folder as output",
                "FIFO",
                "device",
                "folder as input",
                "unreadable folder",
                "empty",
                "no folder",
                "file as folder",
            ]
        )
    )
    prepare, said = None, way
    output = command.index("-o") + 1 if "-o" in command else 2
    if way == "full":
        limit = int(rng.choice([3000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000]))
        prepare, said = full_disk(limit), f"no more than {limit} bytes a file"
    elif way == "read-only output":
        (folder / "out").chmod(0o555)
        prepare = as_nobody
    elif way == "unreadable input":
        for path in at.rglob("*"):
            if path.is_file() and not path.is_symlink() and rng.random() < 0.5:
                path.chmod(0)
        prepare = as_nobody
    elif way == "unreadable folder":
        (at / "product").chmod(0)
        command, prepare = lst(world), as_nobody
    elif way == "folder as output":
        (folder / command[output]).mkdir(parents=True, exist_ok=True)
        if rng.random() < 0.5:
            (folder / command[output] / "x").write_text("mine")
    elif way == "FIFO":
        os.mkfifo(at / "pipe.tif")
        command[1] = "in/pipe.tif"
    elif way == "device":
        command[1] = str(
            rng.choice(["/dev/zero", "/dev/null", "/dev/urandom", "/proc/self/mem", "/dev/stdin", "/proc/self/environ"])
        )
    elif way == "folder as input":
        command[1] = "in"
    elif way == "empty":
        (at / "raster.tif").write_bytes(b"")
        command[1] = "in/raster.tif"
    elif way == "no folder":
        command[output] = "out/none/none/" + command[output].rpartition("/")[2]
    else:
        (folder / "out/file").write_text("mine")
        command[output] = "out/file/" + command[output].rpartition("/")[2]
    return Case("file system", command[0], f"{said}: {' '.join(command[2:])[-40:]}", command, prepare=prepare)


def typed(rng, world, folder):
    """Options, names, or the leave to overwrite."""
    return [options, options, options, names, names, overwritten][int(rng.integers(6))](rng, world, folder)
