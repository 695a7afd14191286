"""Pictures of 8 and 16 bit, grey or colour, with or without alpha.

Pillow reads and writes them, but for 16-bit pixels: it would bring those of colour pictures down to 8 bit without a
word, so GDAL (by rasterio) takes them. A picture appears upright, whatever its EXIF orientation says.
"""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

from lacunar.errors import PictureError, one_line
from lacunar.geo.gate import create_raster, gdal, open_image, open_raster
from lacunar.geo.windows import Tile
from lacunar.limits import PIXELS_AT_ONCE

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
PixelArray = NDArray[np.unsignedinteger]
Sample = TypeVar("Sample", bound=np.generic)

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")  # by Pillow's names, which refuses all others unread
FORMAT_OF_ENDING = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"}
MAX_SIDES = {"JPEG": 65_500, "WEBP": 16_383}  # pixels: what libjpeg and libwebp write
DEEP = 16  # bits of a sample

UPRIGHT = 1  # the EXIF orientation in which row 0 of the file is the top and column 0 the left
_SIDEWAYS = (5, 6, 7, 8)  # row 0 of the file is a side of the picture
_UPSIDE_DOWN = (3, 4, 7, 8)
_MIRRORED = (2, 3, 6, 7)

_GDAL_DRIVERS = {"PNG": "PNG", "TIFF": "GTiff"}
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "WEBP": {"lossless": True, "exact": True},  # exact: colours below full transparency are kept too
}
_PNG_DEPTH_AT = 24  # byte of a PNG file: bits per sample in IHDR (PNG specification, 11.2.2)
_PLAIN_MODES = {"1": "L", "L": "L", "LA": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"}
_WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "RGB", "RGBA")  # what Pillow calls 16-bit files
_TIFF_UPRIGHT_COLOURS = (1, 2)  # PhotometricInterpretation: black is zero, or RGB


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture in memory, upright."""

    colours: PixelArray  # (H, W, 1) grey or (H, W, 3) red, green, blue; uint8 or uint16
    alpha: PixelArray | None = None  # (H, W) opacity in the same type
    icc_profile: bytes | None = None  # the colour profile as in the file

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.colours.shape[0], self.colours.shape[1]

    @property
    def bits(self) -> int:
        """Bits of a sample: 8 or 16."""
        return 8 * self.colours.dtype.itemsize

    @property
    def white(self) -> int:
        """The highest value of a sample."""
        return int(np.iinfo(self.colours.dtype).max)

    @property
    def kind(self) -> str:
        """What it is, for a person."""
        colour = "grey" if self.colours.shape[2] == 1 else "RGB"
        return f"{self.bits}-bit {colour}{' with alpha' if self.alpha is not None else ''}"


def read_picture(path: Path) -> Picture:
    """Read a PNG, JPEG, TIFF, WebP or BMP picture, upright: 8 or 16 bit; grey, RGB or palette; with or without alpha.

    Anything else, several pages or frames, more than `PIXELS_AT_ONCE` pixels, or a damaged file is a `PictureError`.
    """
    with _opened(path) as image:
        width, height = image.size
        if width * height > PIXELS_AT_ONCE:
            raise _too_large(path)
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # a JPEG of a telephone: more views follow the picture itself
            raise PictureError(f"{path} has {frames} frames or pages, wanted a single picture: save the right one")
        icc_profile = image.info.get("icc_profile")
        read = _read_deep if _bits_of(path, image) == DEEP else _read_plain
        pixels = read(path, image)
        orientation = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)  # that once Pillow turned a TIFF
    pixels = np.ascontiguousarray(upright(pixels, orientation))
    colours = pixels.shape[2] - (pixels.shape[2] % 2 == 0)
    return Picture(pixels[..., :colours], pixels[..., -1] if pixels.shape[2] > colours else None, icc_profile)


def check_format(target: Path, picture: Picture) -> None:
    """Refuse a file name whose format cannot keep the picture: its alpha, its 16 bits, or its size."""
    wanted = format_of(target)
    most = MAX_SIDES.get(wanted)
    if most is not None and max(picture.shape) > most:
        got = f"the picture has {_size(picture.shape)}"
        raise PictureError(f"{target}: {wanted} has at most {most:,} pixels on a side, {got}: choose .png or .tif")
    if wanted == "JPEG" and picture.alpha is not None:
        raise PictureError(f"{target}: JPEG cannot keep alpha, the picture has it: choose .png, .tif or .webp")
    if picture.bits == DEEP and wanted not in _GDAL_DRIVERS:
        raise PictureError(f"{target}: {wanted} cannot keep 16 bit, the picture has them: choose .png or .tif")
    if picture.bits == DEEP and wanted == "TIFF" and picture.kind == "16-bit grey with alpha":
        raise PictureError(f"{target}: hardly any program reads 16-bit grey with alpha as TIFF: choose .png")


def format_notes(target: Path, picture: Picture) -> list[str]:
    """What a file of that name does not keep as it is, for a person."""
    wanted, notes = format_of(target), []
    if wanted == "JPEG":
        notes.append("JPEG does not keep the pixels outside the mask exactly; .png, .tif and .webp do")
    if wanted == "WEBP" and picture.colours.shape[2] == 1:
        notes.append("WebP knows no grey: the picture reads back as RGB of three equal channels")
    return notes


def format_of(target: Path) -> str:
    """Return the format that a file's ending stands for; another ending is a ``PictureError``."""
    ending = target.suffix.lower()
    if ending not in FORMAT_OF_ENDING:
        raise PictureError(f"{target}: wanted an ending of {', '.join(FORMAT_OF_ENDING)}: rename it")
    return FORMAT_OF_ENDING[ending]


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture in the format that the ending says, with its alpha, its bits and its colour profile.

    PNG, TIFF and WebP keep every pixel as it is; JPEG (quality 95) does not. A format that cannot keep the picture, or
    a disk that refuses, is a `PictureError`.
    """
    check_format(path, picture)
    stack = picture.colours if picture.alpha is None else np.dstack([picture.colours, picture.alpha])
    try:
        if picture.bits == DEEP:
            _write_deep(path, stack, picture.icc_profile, has_alpha=picture.alpha is not None)
            return
        image = Image.fromarray(stack[..., 0] if stack.shape[2] == 1 else stack)
        options = _SAVE_OPTIONS[format_of(path)]
        image.save(path, format_of(path), icc_profile=picture.icc_profile, **options)
    except OSError as error:
        reason = error.strerror or error
        raise PictureError(f"{path.name}: cannot be written ({reason}); wanted a folder with free space") from error
    except ValueError as error:
        raise PictureError(f"{path.name}: cannot be written ({error}): choose .png or .tif") from error


def upright(pixels: NDArray[Sample], orientation: int) -> NDArray[Sample]:
    """Turn and mirror pixels (H, W, C) as an EXIF orientation of 1 to 8 says; another number changes nothing.

    Reference: EXIF 2.32, tag 0x0112: where row 0 and column 0 of the file belong in the picture.
    """
    if orientation in _SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    if orientation in _UPSIDE_DOWN:
        pixels = pixels[::-1]
    if orientation in _MIRRORED:
        pixels = pixels[:, ::-1]
    return pixels


def window_in_file(window: Tile, shape: tuple[int, int], orientation: int) -> Tile:
    """Where a window of the upright picture of height and width ``shape`` lies in the file: the inverse of `upright`.

    >>> window_in_file(Tile(0, 1, 2, 3), (6, 8), 6)
    Tile(row=4, col=0, height=3, width=2)
    """
    row, col, height, width = window.row, window.col, window.height, window.width
    if orientation in _MIRRORED:
        col = shape[1] - col - width
    if orientation in _UPSIDE_DOWN:
        row = shape[0] - row - height
    return Tile(col, row, width, height) if orientation in _SIDEWAYS else Tile(row, col, height, width)


def orientation_of(path: Path) -> int:
    """EXIF orientation of a picture file, 1 (upright) where it has none or is no picture that `read_picture` reads."""
    try:
        with _opened(path) as image:
            return int(image.getexif().get(ExifTags.Base.Orientation, UPRIGHT))
    except PictureError:
        return UPRIGHT


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture; what Pillow and GDAL raise becomes one line."""
    if not path.is_file():
        got = "is a folder" if path.is_dir() else "does not exist"
        raise PictureError(f"{path} {got}, wanted a picture ({', '.join(FORMATS)})")
    try:
        with open_image(path, FORMATS) as image:
            yield image
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except UnidentifiedImageError as error:
        wanted = f"wanted {', '.join(FORMATS)} of 8 or 16 bit"
        raise PictureError(f"{path} is no picture that can be read, {wanted}: convert it first") from error
    except PermissionError as error:
        raise PictureError(f"{path} may not be read ({error.strerror}): ask for the right to read it") from error
    except Exception as error:  # damaged files raise OSError, SyntaxError, ValueError, struct.error, KeyError, ...
        reason = one_line(error)
        raise PictureError(f"{path} cannot be read ({reason}): is it cut off or damaged? Get it anew") from error


def _too_large(path: Path) -> PictureError:
    side = int(PIXELS_AT_ONCE**0.5)
    got = f"{path} has more than {PIXELS_AT_ONCE:,} pixels (a square of {side:,} x {side:,})"
    return PictureError(f"{got}: cut out the part around the mask, or shrink the picture first")


def _other_colours(path: Path, image: Image.Image) -> PictureError:
    """Refuse CMYK and the like."""
    wanted = "wanted grey or RGB of 8 or 16 bit, with or without alpha"
    return PictureError(f"{path} is a picture in {image.mode}, {wanted}: convert it")


def _bits_of(path: Path, image: Image.Image) -> int:
    """Bits of a sample as the file says; Pillow's mode does not tell."""
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(_PNG_DEPTH_AT + 1)[_PNG_DEPTH_AT]
    if image.format == "TIFF":
        return int(max(getattr(image, "tag_v2", {}).get(BITSPERSAMPLE, (8,))))
    return 8


def _read_plain(path: Path, image: Image.Image) -> PixelArray:
    """Samples (H, W, C) of at most 8 bit."""
    if image.mode not in _PLAIN_MODES:
        raise _other_colours(path, image)
    mode = _PLAIN_MODES[image.mode]
    if "transparency" in image.info:
        mode = _WITH_ALPHA[mode]
    pixels = np.asarray(image.convert(mode))
    return pixels.reshape(*pixels.shape[:2], -1)


def _read_deep(path: Path, image: Image.Image) -> PixelArray:
    """Samples (H, W, C) of 16 bit."""
    photometric = getattr(image, "tag_v2", {}).get(PHOTOMETRIC_INTERPRETATION, _TIFF_UPRIGHT_COLOURS[0])
    usual = image.mode in _DEEP_MODES and photometric in _TIFF_UPRIGHT_COLOURS and "transparency" not in image.info
    if usual:
        with gdal(f"{path} cannot be read: is it cut off or damaged", PictureError), open_raster(path) as dataset:
            pixels = dataset.read()
        if pixels.dtype == np.uint16 and len(pixels) <= 4:
            return np.asarray(np.moveaxis(pixels, 0, -1))
    raise _other_colours(path, image)


def _write_deep(path: Path, stack: PixelArray, icc_profile: bytes | None, *, has_alpha: bool) -> None:
    height, width, count = stack.shape
    options: dict[str, Any] = {"driver": _GDAL_DRIVERS[format_of(path)]}
    if options["driver"] == "GTiff":
        options |= {"photometric": "RGB" if count > 2 else "MINISBLACK", "compress": "deflate"}
        options |= {"alpha": "NON-PREMULTIPLIED"} if has_alpha else {}
    if icc_profile is not None:
        options["SOURCE_ICC_PROFILE"] = base64.b64encode(icc_profile).decode()
    shape = {"height": height, "width": width, "count": count, "dtype": "uint16"}
    with gdal(f"{path.name}: cannot be written", PictureError, GDAL_PAM_ENABLED=False):
        with create_raster(path, **shape, **options) as dataset:
            dataset.write(np.moveaxis(stack, -1, 0))


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]} x {shape[0]}"
