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
from pathlib import Path

from lacunar.train.recipes import RECIPES
from lacunar.train.water_data import MASK_ENDING, WaterScene, split_scenes, water_scenes

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 60 * 2**20  # bytes of the whole folder
WHEELS = ("threadpoolctl",)  # that training needs and the machine lacks
STARTS = ("water-lite", "lst-small")  # shipped models that runs start from
WATER_BYTES = 6 * 2**20  # of scenes, besides those that are held out
LST_BYTES = 9 * 2**20  # of rasters
FACES_BYTES = 15 * 2**20  # of photographs in their tar
SOURCES = ("src/lacunar", "benchmarks/gpu_kit")


def pack_source(target: Path) -> None:
    """Source without the shipped weights, but for those that a run starts from."""
    with tarfile.open(target, "w:gz") as archive:
        for folder in SOURCES:
            for file in sorted((ROOT / folder).rglob("*")):
                name = file.relative_to(ROOT)
                other = "shipped" in name.parts and not set(STARTS) & set(name.parts)
                if file.is_file() and "__pycache__" not in name.parts and not other:
                    archive.add(file, str(name))


def pack_faces(source: Path, target: Path) -> None:
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
            if size > FACES_BYTES and number < len(kept) - 500:
                break
            chosen.append((number, member))
        for _, member in sorted(chosen, key=lambda one: one[0]):
            part.addfile(member, whole.extractfile(member))


def stage_water(source: Path, target: Path) -> None:
    """What every set holds out, and of the rest of each set an equal share of the bytes."""
    scenes = water_scenes(source)
    parts = split_scenes(scenes)
    sets = sorted({scene.set_name for scene in scenes})
    for scene in [*parts.reported, *parts.validation]:
        _scene_copied(source, scene, target)
    for name in sets:
        rest = [scene for scene in parts.training if scene.set_name == name]
        random.Random(0).shuffle(rest)
        left = WATER_BYTES / len(sets)
        while rest and left > 0:
            left -= _scene_copied(source, rest.pop(), target)


def _scene_copied(source: Path, scene: WaterScene, target: Path) -> int:
    folder = next(folder for folder in [source, *source.rglob(scene.set_name)] if folder.name == scene.set_name)
    files = [*folder.glob(f"{scene.name}.*"), folder / (scene.name + MASK_ENDING)]
    return sum(_copied(file, target / scene.set_name) for file in files)


def stage_lst(source: Path, target: Path) -> None:
    """Rasters, the same share of every place, until the bytes are used up."""
    places: dict[str, list[Path]] = {}
    for file in sorted(source.glob("*.tif")):
        places.setdefault(file.stem.split("_")[0], []).append(file)
    left, turn = LST_BYTES, 0
    while any(turn < len(files) for files in places.values()):
        for files in places.values():
            if turn < len(files) and (turn == 0 or files[turn].stat().st_size <= left):
                left -= _copied(files[turn], target)
        turn += 1


def _copied(file: Path, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, folder / file.name)
    return file.stat().st_size


def make_kit(data: Path, kit: Path, *, wheels: bool = True) -> int:
    """Write the folder; returns its bytes."""
    shutil.rmtree(kit, ignore_errors=True)
    (kit / "data").mkdir(parents=True)
    pack_source(kit / "source.tar.gz")
    shutil.copy(Path(__file__).with_name("run.sh"), kit / "run.sh")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        stage_water(data / "water" / "train", scratch / "water")
        RECIPES["water-lite"].pack(scratch / "water", None, kit / "data" / "water.npz")
        stage_lst(data / "lst" / "train", scratch / "lst")
        RECIPES["lst-small"].pack(scratch / "lst", data / "clouds", kit / "data" / "lst.npz")
    pack_faces(next((data / "faces" / "train").glob("*.tar")), kit / "data" / "faces.tar")
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
    given = parser.parse_args()
    size = make_kit(given.data, given.kit)
    print(f"{given.kit}: {size / 2**20:.1f} MiB of {LARGEST / 2**20:.0f}")
    for file in sorted(given.kit.rglob("*")):
        if file.is_file():
            print(f"{file.stat().st_size / 2**20:7.2f} MiB  {file.relative_to(given.kit)}")
    if size > LARGEST:
        raise SystemExit("the kit is too large: lower WATER_BYTES, LST_BYTES or FACES_BYTES")


if __name__ == "__main__":
    main()
