"""From picture files to filled picture files: any picture, or a face in a photograph."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from lacunar.diffusion.samplers import Preset, chosen_preset
from lacunar.errors import LacunarError
from lacunar.geo.masks import PictureMask, read_mask
from lacunar.geo.missing_shapes import occlusion
from lacunar.geo.picture import (
    Picture,
    check_format,
    format_notes,
    format_of,
    read_picture,
    write_picture,
)
from lacunar.geo.staging import Staging
from lacunar.geo.windows import Tile
from lacunar.interpolate.membrane import membrane_fill
from lacunar.models.backend import check_backend, load_filler
from lacunar.models.checkpoint import Model
from lacunar.pictures.face_fill import fill_face
from lacunar.pictures.face_frame import Face, choose_face, find_faces
from lacunar.pictures.fill import Callback, Drawing, FilledRegion, fill_regions, paste, to_model
from lacunar.pictures.missing_regions import BoolArray
from lacunar.pictures.ranking import ranked
from lacunar.pictures.sampler import frame_evaluations
from lacunar.plotting import check_figure
from lacunar.versions import versions

PICTURE_MODEL = "picture-small"
FACE_MODEL = "face-full"
NO_DETAIL = "none"
MAX_SAMPLES = 64
ASTRONAUT = Tile(row=66, col=172, height=110, width=110)  # her face in the photograph
ASTRONAUT_HIDDEN = 0.3  # share of it that strokes of a brush hide


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """How a picture is filled and what is written; a value out of its range is a ``LacunarError``."""

    model: str = PICTURE_MODEL  # a shipped model's name or a model folder
    preset: str = "fast"
    sampler: str | None = None  # in place of the preset's
    evaluations: int | None = None  # in place of the preset's
    samples: int = 1
    mean: bool = False  # write the mean of the samples in place of each
    choose: bool = False  # rank the samples (`lacunar.pictures.ranking`) and write the best alone
    invert: bool = False  # black of the mask is filled, not white
    seed: int = 0
    device: str = "cpu"
    backend: str = "eager"  # see `lacunar.models.backend`
    overwrite: bool = False
    sheet: Path | None = None  # contact sheet to draw: .png, .pdf or .svg
    command: str = ""  # what the user typed, for the record

    def __post_init__(self) -> None:
        check_backend(self.backend, self.chosen)
        self.chosen.check_samples(self.samples)
        if not 1 <= self.samples <= MAX_SAMPLES or self.seed < 0:
            raise LacunarError(
                f"{self.samples} samples and seed {self.seed}: wanted 1 to {MAX_SAMPLES} samples and a seed from 0"
            )
        if self.mean and self.samples == 1:
            raise LacunarError("the mean of 1 sample is that sample: wanted --samples 2 or more; 8 are usual")
        if self.choose and (self.mean or self.samples == 1):
            got = "the mean" if self.mean else "1 sample"
            raise LacunarError(f"got {got} to choose from: wanted --samples 2 or more, without --mean; 8 are usual")
        check_figure(self.sheet)

    @property
    def chosen(self) -> Preset:
        """The preset, or what is asked for in place of it."""
        return chosen_preset(self.preset, self.sampler, self.evaluations)

    @property
    def drawing(self) -> Drawing:
        """How samples are drawn."""
        return Drawing(self.chosen, self.samples, self.seed)


@dataclass(frozen=True, kw_only=True)
class FaceChoice:
    """Which face is meant, where the detector alone cannot tell; at most one of index, box and whole."""

    index: int | None = None  # from 1, from left to right
    box: tuple[float, float, float, float] | None = None  # x, y, width, height in pixels, from brow to chin
    whole: bool = False  # the picture is the aligned face: its largest middle square is the frame
    detail: str = PICTURE_MODEL  # the model that fills what lies outside the face's frame, or "none"

    def __post_init__(self) -> None:
        said = [self.index is not None, self.box is not None, self.whole]
        if sum(said) > 1:
            raise LacunarError("got more than one of --face, --box and --whole: wanted one at most, they contradict")
        if self.box is not None and not (min(self.box[2:]) >= 1 and all(np.isfinite(self.box))):
            raise LacunarError(f"box {self.box}: wanted X,Y,WIDTH,HEIGHT in pixels, width and height of 1 or more")


def inpaint_file(
    path: Path, output: Path, *, mask: Path, options: PictureOptions | None = None, callback: Callback | None = None
) -> dict[str, Any]:
    """Fill the masked part of any picture and give a record of it; bad input is a ``LacunarError``, nothing is written.

    The picture is PNG, JPEG, TIFF, WebP or BMP, of 8 or 16 bits, grey or RGB, with or without alpha; white of the
    ``mask`` is filled, or with the mask ``alpha`` the transparent part. Several samples without ``mean`` become
    ``NAME_1.png``, ``NAME_2.png``, ... Outside the mask the pixels stay bit by bit (JPEG excepted, which keeps no
    picture exactly). ``callback`` gets (done, all).
    """
    options = options or PictureOptions()
    picture, found = _read(path, mask, output, options)
    missing = found.missing

    def fill(model: Model) -> tuple[FilledRegion, ...]:
        return fill_regions(picture, missing, model, options.drawing, callback=callback)

    return _write_filled(picture, found, fill, (path, mask), output, options)


def fill_face_file(
    path: Path,
    output: Path,
    *,
    mask: Path,
    choice: FaceChoice | None = None,
    options: PictureOptions | None = None,
    callback: Callback | None = None,
) -> dict[str, Any]:
    """Find a face, fill what hides it in the model's frame, and put that back into the photograph.

    ``choice`` says which face, by default the one that the mask touches; the record also holds the face's frame.
    """
    options, choice = options or PictureOptions(model=FACE_MODEL), choice or FaceChoice()
    picture, found = _read(path, mask, output, options)
    missing = found.missing
    face = _locate(picture, missing, choice)

    def fill(model: Model) -> tuple[FilledRegion, ...]:
        detail = None
        if choice.detail != NO_DETAIL:
            detail = load_filler(choice.detail, device=options.device, backend=options.backend)
        return fill_face(picture, missing, face, model, detail, options.drawing, callback=callback)

    record = _write_filled(picture, found, fill, (path, mask), output, options, face)
    frame = {name: round(float(getattr(face, name)), 1) for name in ("x", "y", "side")}
    frame |= {"tilt_degrees": round(float(face.tilt), 1), "votes": face.votes}
    return record | {"face": frame, "detail_model": choice.detail}


def _read(path: Path, mask: Path, output: Path, options: PictureOptions) -> tuple[Picture, PictureMask]:
    """The picture and what is to be filled; a format that cannot hold the result is refused."""
    picture = read_picture(path)
    found = read_mask(mask, picture, of=path, invert=options.invert)
    check_format(output, picture)
    if picture.alpha is not None and (clear := int((picture.alpha[found.missing] < picture.white).sum())):
        note = f"{clear} of the filled pixels were transparent: they are opaque now"
        found = PictureMask(found.missing, (*found.notes, note))
    return picture, found


def _locate(picture: Picture, missing: BoolArray, choice: FaceChoice) -> Face:
    """The chosen face; it is looked for with the mask filled smoothly, then in the picture as given."""
    if choice.whole:
        return Face.whole(picture.shape)
    if choice.box is not None:
        return Face.in_box(choice.box)
    given = to_model(picture.colours, picture.white)
    faces = find_faces(membrane_fill(given, missing), missing) or find_faces(given, missing)
    return choose_face(faces, missing, index=choice.index)


def numbered(output: Path, options: PictureOptions) -> list[Path]:
    """The files to write: one, or of several samples NAME_1, NAME_2, ..."""
    if options.samples == 1 or options.mean or options.choose:
        return [output]
    return [output.with_name(f"{output.stem}_{number}{output.suffix}") for number in range(1, options.samples + 1)]


def _write_filled(
    picture: Picture,
    mask: PictureMask,
    fill: Callable[[Model], tuple[FilledRegion, ...]],
    inputs: Sequence[Path],
    output: Path,
    options: PictureOptions,
    face: Face | None = None,
) -> dict[str, Any]:
    """Check the outputs, fill, write; no output takes its name before all of them are whole."""
    begun, missing = time.perf_counter(), mask.missing
    with Staging(overwrite=options.overwrite, inputs=[*inputs, Path(options.model)]) as staging:
        targets = numbered(output, options)
        hidden = [staging.stage(target) for target in targets]
        sheet = staging.stage(options.sheet) if options.sheet is not None else None
        model = load_filler(options.model, device=options.device, backend=options.backend)
        regions = fill(model)
        ranking = ranked(picture, missing, regions, face) if options.choose else None
        for number, path in enumerate(hidden):
            shown = number if ranking is None else ranking.best
            write_picture(path, paste(picture, regions, sample=None if options.mean else shown))
        if sheet is not None:
            from lacunar.pictures.plot import draw_sheet

            places = () if ranking is None else ranking.places
            draw_sheet(sheet, picture, missing, regions, title=inputs[0].name, places=places)
    return {
        "input": str(inputs[0]),
        "mask": str(inputs[1]),
        "outputs": [str(target) for target in targets],
        "sheet": None if options.sheet is None else str(options.sheet),
        "picture": {"width": picture.shape[1], "height": picture.shape[0], "kind": picture.kind},
        "pixels_filled": int(missing.sum()),
        "share_filled": round(float(missing.mean()), 6),
        "exact_outside_mask": format_of(output) != "JPEG",
        "notes": [*mask.notes, *format_notes(output, picture)],
        "regions": len(regions),
        "preset": options.preset,
        "sampler": options.chosen.sampler,
        "evaluations_per_sample": frame_evaluations(model, options.chosen),
        "samples": options.samples,
        "mean": options.mean,
        **({} if ranking is None else {"ranking": asdict(ranking) | {"written": ranking.best + 1}}),
        "seed": options.seed,
        "device": options.device,
        "backend": model.backend,
        "model": {"name": model.name, "sha256": model.card.sha256},
        "seconds": round(time.perf_counter() - begun, 2),
        "versions": versions() | {"pillow": PIL.__version__},
        "command": options.command,
    }


def demonstrate_face(folder: Path, *, options: PictureOptions, callback: Callback | None = None) -> dict[str, Any]:
    """Hide a part of the face of the astronaut that scikit-image carries, and reconstruct it.

    The photograph, the mask and the results are written into the folder; options and record as in `fill_face_file`.
    """
    picture, mask = folder / "astronaut.png", folder / "astronaut_mask.png"
    write_occluded_face(picture, mask, seed=options.seed, overwrite=options.overwrite)
    return fill_face_file(picture, folder / "astronaut_face.png", mask=mask, options=options, callback=callback)


def write_occluded_face(picture: Path, mask: Path, *, seed: int = 0, overwrite: bool = False) -> None:
    """Write the photograph that scikit-image carries, and a mask of strokes over a part of the face."""
    from skimage.data import astronaut

    photograph = astronaut()  # type: ignore[no-untyped-call]
    drawn = np.zeros(photograph.shape[:2], dtype=np.uint8)
    hidden = occlusion("strokes", ASTRONAUT.shape, ASTRONAUT_HIDDEN, rng=np.random.default_rng(seed))
    drawn[ASTRONAUT.slices] = np.where(hidden, 255, 0)
    with Staging(overwrite=overwrite) as staging:
        for path, values in {picture: photograph, mask: drawn}.items():
            write_picture(staging.stage(path, make_folder=True), Picture(np.atleast_3d(values)))
