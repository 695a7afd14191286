"""Pack data, source, starting weights and missing wheels into one folder for a machine with a GPU: `make gpu-kit`.

The folder holds what a bare machine needs that has Python with torch, accelerate, safetensors and scikit-image, and no
network. Real data are not in the repository: --data names a folder with faces/train, water/train, lst/train, clouds.
"""

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save

from gpu_kit.plan import PLAN, Part, chosen
from lacunar.models.weights import as_dtype
from lacunar.train.kinds import LstRecipe, PictureRecipe, WaterRecipe
from lacunar.train.recipe import WEIGHTS_ENDING
from lacunar.train.recipes import RECIPES
from lacunar.train.water_data import MASK_ENDING, WaterScene, split_scenes, water_scenes

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 60 * 2**20  # bytes of the whole folder
LISTED = 2**20  # bytes from which a file is printed
WHEELS = ("threadpoolctl",)  # that training needs and the machine lacks
# MiB of scenes besides those that are held out, of rasters, of photographs in their tar, of pictures for textures
SHARES = {"water": 6.0, "lst": 9.0, "faces": 10.5, "textures": 1.5}
TEXTURES = ("waterbodies_rgb_a", "esw_rgb", "arctic_rgb", "coast_rgb", "dhaka_rgb")
SOURCES = ("src/lacunar", "benchmarks/gpu_kit")
KINDS = {WaterRecipe: "water", LstRecipe: "lst", PictureRecipe: "faces"}


def pack_starts(parts: tuple[Part, ...], target: Path) -> None:
    """Weights of recipes that start from ImageNet, whose packages the machine lacks."""
    for part in parts:
        recipe = RECIPES[part.recipe]
        if isinstance(recipe, WaterRecipe) and recipe.network.encoder != "unet" and not part.start:
            target.mkdir(exist_ok=True)
            torch.manual_seed(recipe.training.seed)
            weights = as_dtype(recipe.new_network(None).state_dict(), "float16")
            (target / f"{part.recipe}{WEIGHTS_ENDING}").write_bytes(save(weights))


def kinds_of(parts: tuple[Part, ...]) -> set[str]:
    """Which data the recipes need: water, lst, faces."""
    return {name for kind, name in KINDS.items() if any(isinstance(RECIPES[part.recipe], kind) for part in parts)}


def pack_source(target: Path, starts: set[str]) -> None:
    """Source without the shipped weights, but for those that a run starts from."""
    with tarfile.open(target, "w:gz") as archive:
        for folder in SOURCES:
            for file in sorted((ROOT / folder).rglob("*")):
                name = file.relative_to(ROOT)
                other = "shipped" in name.parts and not starts & set(name.parts)
                if file.is_file() and "__pycache__" not in name.parts and not other:
                    archive.add(file, str(name))


def pack_faces(source: Path, target: Path, most: float) -> None:
    """A random share of the photographs, as they are; the last ones, which are held out, always."""
    with tarfile.open(source) as whole, tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as part:
        members = [member for member in sorted(whole.getmembers(), key=lambda one: one.name) if member.isfile()]
        kept = list(enumerate(members))
        rest, held_out = kept[:-500], kept[-500:]
        random.Random(0).shuffle(rest)
        size = 0
        chosen = []
        for number, member in [*held_out, *rest]:
            size += 512 + -(-member.size // 512) * 512
            if size > most and number < len(kept) - 500:
                break
            chosen.append((number, member))
        for _, member in sorted(chosen, key=lambda one: one[0]):
            part.addfile(member, whole.extractfile(member))


def stage_textures(source: Path, target: Path, most: float) -> None:
    """Pictures of land from above that picture models learn textures from, the same bytes of every set."""
    for name in TEXTURES:
        pictures = sorted(file for file in (source / name).glob("*") if not file.stem.endswith("_mask"))
        random.Random(0).shuffle(pictures)
        left = most / len(TEXTURES)
        while pictures and left > 0:
            left -= _copied(pictures.pop(), target / name)


def stage_water(source: Path, target: Path, most: float) -> None:
    """What every set holds out, and of the rest of each set the same bytes; small sets whole."""
    scenes = water_scenes(source)
    parts = split_scenes(scenes)
    for scene in [*parts.reported, *parts.validation]:
        _scene_copied(source, scene, target)
    sets: dict[str, list[WaterScene]] = {}
    for scene in parts.training:
        sets.setdefault(scene.set_name, []).append(scene)

    def bytes_of(rest: list[WaterScene]) -> int:
        return sum(file.stat().st_size for scene in rest for file in _files_of(source, scene))

    for number, rest in enumerate(sorted(sets.values(), key=bytes_of)):
        random.Random(0).shuffle(rest)
        left = most / (len(sets) - number)
        while rest and left > 0:
            copied = _scene_copied(source, rest.pop(), target)
            left, most = left - copied, most - copied


def _files_of(source: Path, scene: WaterScene) -> list[Path]:
    folder = next(folder for folder in [source, *source.rglob(scene.set_name)] if folder.name == scene.set_name)
    return [*folder.glob(f"{scene.name}.*"), folder / (scene.name + MASK_ENDING)]


def _scene_copied(source: Path, scene: WaterScene, target: Path) -> int:
    return sum(_copied(file, target / scene.set_name) for file in _files_of(source, scene))


def stage_lst(source: Path, target: Path, most: float) -> None:
    """Rasters, the same share of every place, until the bytes are used up."""
    places: dict[str, list[Path]] = {}
    for file in sorted(source.glob("*.tif")):
        places.setdefault(file.stem.split("_")[0], []).append(file)
    left, turn = most, 0
    while any(turn < len(files) for files in places.values()):
        for files in places.values():
            if turn < len(files) and (turn == 0 or files[turn].stat().st_size <= left):
                left -= _copied(files[turn], target)
        turn += 1


def _copied(file: Path, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, folder / file.name)
    return file.stat().st_size


def make_kit(
    data: Path,
    kit: Path,
    *,
    parts: tuple[Part, ...] = PLAN,
    mebibytes: Mapping[str, float] = SHARES,
    water: Path | None = None,
    wheels: bool = True,
) -> int:
    """Write the folder; returns its bytes."""
    shutil.rmtree(kit, ignore_errors=True)
    (kit / "data").mkdir(parents=True)
    pack_source(kit / "source.tar.gz", {part.start for part in parts if part.start})
    shutil.copy(Path(__file__).with_name("run.sh"), kit / "run.sh")
    pack_starts(parts, kit / "starts")
    kinds, most = kinds_of(parts), {name: 2**20 * size for name, size in {**SHARES, **mebibytes}.items()}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if "water" in kinds:
            stage_water(water or data / "water" / "train", scratch / "water", most["water"])
            RECIPES["water-classes"].pack(scratch / "water", None, kit / "data" / "water.npz")
        if "lst" in kinds:
            stage_lst(data / "lst" / "train", scratch / "lst", most["lst"])
            RECIPES["lst-small"].pack(scratch / "lst", data / "clouds", kit / "data" / "lst.npz")
    if "faces" in kinds:
        pictures = kit / "data" / "pictures"
        stage_textures(data / "water" / "train", pictures, most["textures"])
        pack_faces(next((data / "faces" / "train").glob("*.tar")), pictures / "faces.tar", most["faces"])
    if wheels:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(kit / "wheels"), *WHEELS]
        subprocess.run(command, check=True)
    files = sorted(file for file in kit.rglob("*") if file.is_file())
    manifest = {
        str(file.relative_to(kit)): {
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in files
    }
    (kit / "manifest.json").write_text(json.dumps(manifest, indent=2))
    return sum(entry["bytes"] for entry in manifest.values())  # type: ignore[misc]


def main() -> None:
    """Pack, and print the size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--kit", type=Path, default=Path("out/gpu-kit"))
    parser.add_argument("--water", type=Path, help="scenes of water in place of DATA/water/train (water_classes.py)")
    parser.add_argument(
        "--mebibytes", nargs="*", default=[], metavar="KIND=MIB", help=f"room of {', '.join(SHARES)}; default {SHARES}"
    )
    parser.add_argument("recipes", nargs="*", help="pack for these alone; the whole plan where none is given")
    given = parser.parse_args()
    rooms = {name: float(size) for name, _, size in (word.partition("=") for word in given.mebibytes)}
    if set(rooms) - set(SHARES):
        parser.error(f"--mebibytes: got {', '.join(sorted(set(rooms) - set(SHARES)))}; wanted {', '.join(SHARES)}")
    parts = chosen(given.recipes)
    size = make_kit(given.data, given.kit, parts=parts, mebibytes=rooms, water=given.water)
    print(f"{given.kit}: {size / 2**20:.1f} MiB of {LARGEST / 2**20:.0f}")
    for file in sorted(given.kit.rglob("*")):
        if file.is_file() and file.stat().st_size > LISTED:
            print(f"{file.stat().st_size / 2**20:7.2f} MiB  {file.relative_to(given.kit)}")
    if size > LARGEST:
        raise SystemExit("the kit is too large: give less room by --mebibytes, or name fewer recipes")


if __name__ == "__main__":
    main()
