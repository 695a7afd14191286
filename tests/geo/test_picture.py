"""Pictures: every pixel, bit, alpha value and colour profile comes back; what cannot be kept is refused."""

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from commands import png_of_zeros
from lacunar.errors import PictureError
from lacunar.geo.picture import (
    MAX_SIDES,
    PIXELS_AT_ONCE,
    Picture,
    check_format,
    format_notes,
    read_picture,
    upright,
    window_in_file,
    write_picture,
)
from lacunar.geo.windows import Tile

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(dtype=np.uint8, channels=3, *, alpha=False, icc=None, shape=(20, 30), seed=0):
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, np.iinfo(dtype).max, (*shape, channels + alpha), dtype=dtype, endpoint=True)
    return Picture(drawn[..., :channels], drawn[..., -1] if alpha else None, icc)


def same(a, b):
    assert a.colours.dtype == b.colours.dtype
    np.testing.assert_array_equal(a.colours, b.colours)
    assert (a.alpha is None) == (b.alpha is None)
    if a.alpha is not None:
        np.testing.assert_array_equal(a.alpha, b.alpha)


KEPT = [
    (ending, dtype, channels, alpha)
    for ending in ("png", "tif", "tiff", "webp")
    for dtype in (np.uint8, np.uint16)
    for channels in (1, 3)
    for alpha in (False, True)
    if not (ending == "webp" and (dtype == np.uint16 or channels == 1))
    and not (ending.startswith("tif") and dtype == np.uint16 and channels == 1 and alpha)
]


@pytest.mark.parametrize(("ending", "dtype", "channels", "alpha"), KEPT)
def test_what_is_written_is_read_again(tmp_path, ending, dtype, channels, alpha):
    made = picture(dtype, channels, alpha=alpha, icc=ICC)
    write_picture(tmp_path / f"a.{ending}", made)
    read = read_picture(tmp_path / f"a.{ending}")
    same(read, made)
    assert read.icc_profile == ICC
    assert [path.name for path in tmp_path.iterdir()] == [f"a.{ending}"]  # GDAL writes nothing beside it


def test_grey_in_webp_is_the_same_grey_in_three_channels(tmp_path):
    made = picture(channels=1)
    write_picture(tmp_path / "a.webp", made)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.webp").colours, np.repeat(made.colours, 3, axis=2))
    assert format_notes(tmp_path / "a.webp", made) == [
        "WebP knows no grey: the picture reads back as RGB of three equal channels"
    ]
    assert format_notes(tmp_path / "a.png", made) == format_notes(tmp_path / "a.webp", picture()) == []


def test_the_longest_sides_that_the_formats_have(tmp_path):
    for name, side in (("a.webp", MAX_SIDES["WEBP"]), ("a.jpg", MAX_SIDES["JPEG"])):
        write_picture(tmp_path / name, Picture(np.zeros((1, side, 1), np.uint8)))
        assert read_picture(tmp_path / name).shape == (1, side)


def test_jpeg_keeps_a_smooth_picture_nearly(tmp_path):
    smooth = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    write_picture(tmp_path / "a.jpg", Picture(smooth, None, ICC))
    read = read_picture(tmp_path / "a.jpg")
    assert np.abs(read.colours.astype(int) - smooth).max() < 6
    assert read.icc_profile == ICC


@pytest.mark.parametrize(("channels", "alpha"), [(1, False), (3, False), (3, True)])
def test_another_library_reads_the_16_bits(tmp_path, channels, alpha):
    made = picture(np.uint16, channels, alpha=alpha)
    write_picture(tmp_path / "a.tif", made)
    stack = made.colours if made.alpha is None else np.dstack([made.colours, made.alpha])
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), stack.squeeze())


def test_16_bits_that_another_library_wrote(tmp_path):
    made = picture(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", made.colours, photometric="rgb", compression="zlib")
    same(read_picture(tmp_path / "a.tif"), made)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_is_applied(tmp_path, orientation, ending):
    path, exif = tmp_path / f"a.{ending}", Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture().colours).save(path, exif=exif, **({"lossless": True} if ending == "webp" else {}))
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_picture(path).colours, np.asarray(ImageOps.exif_transpose(image)))


def test_orientation_of_16_bits(tmp_path):
    made = picture(np.uint16, 1)
    tifffile.imwrite(tmp_path / "a.tif", made.colours[..., 0], extratags=[(274, "H", 1, 6, True)])
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").colours[..., 0], np.rot90(made.colours[..., 0], -1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_window_of_the_upright_picture_lies_in_the_file(orientation):
    stored = np.arange(7 * 11).reshape(7, 11, 1)
    turned, window = upright(stored, orientation), Tile(1, 2, 3, 4)
    part = stored[window_in_file(window, turned.shape[:2], orientation).slices]
    np.testing.assert_array_equal(upright(part, orientation), turned[window.slices])


def test_an_unknown_orientation_changes_nothing():
    made = picture().colours
    np.testing.assert_array_equal(upright(made, 0), made)


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [("1", (1, False)), ("L", (1, False)), ("LA", (1, True)), ("P", (3, False)), ("RGBA", (3, True))],
)
def test_modes_of_pillow(tmp_path, mode, wanted):
    Image.fromarray(picture().colours).convert(mode).save(tmp_path / "a.png")
    read = read_picture(tmp_path / "a.png")
    assert (read.colours.shape[2], read.alpha is not None) == wanted
    assert read.bits == 8


def test_a_transparent_colour_becomes_alpha(tmp_path):
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    image.save(tmp_path / "a.png", transparency=(4, 5, 6))
    assert read_picture(tmp_path / "a.png").alpha.tolist() == [[255, 0]]


def test_a_telephone_jpeg_of_several_views_is_its_first(tmp_path):
    views = [Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (50, 200)]
    views[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=views[1:])
    assert abs(int(read_picture(tmp_path / "a.jpg").colours.mean()) - 50) < 3


# --- refusals ---


def refused(path, message):
    with pytest.raises(PictureError, match=message) as told:
        read_picture(path)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


def test_no_file_a_folder_and_no_picture(tmp_path):
    refused(tmp_path / "none.png", r"none.png does not exist, wanted a picture \(PNG, JPEG, TIFF, WEBP, BMP\)")
    refused(tmp_path, "is a folder, wanted a picture")
    (tmp_path / "text.png").write_text("no picture")
    refused(tmp_path / "text.png", "is no picture that can be read")
    (tmp_path / "empty.png").touch()
    refused(tmp_path / "empty.png", "is no picture that can be read")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.gif")
    refused(tmp_path / "a.gif", "is no picture that can be read, wanted PNG, JPEG, TIFF, WEBP")


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_animated(tmp_path, ending):
    frames = [Image.fromarray(picture(seed=seed).colours) for seed in range(3)]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
    refused(tmp_path / f"a.{ending}", "has 3 frames or pages, wanted a single picture")


@pytest.mark.parametrize(("mode", "ending"), [("CMYK", "jpg"), ("CMYK", "tif"), ("LAB", "tif"), ("F", "tif")])
def test_other_colours(tmp_path, mode, ending):
    Image.new(mode, (8, 8)).save(tmp_path / f"a.{ending}")
    refused(tmp_path / f"a.{ending}", f"is a picture in {mode}, wanted grey or RGB of 8 or 16 bit.*: convert it")


def test_16_bit_cmyk(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8, 4), np.uint16), photometric="separated")
    refused(tmp_path / "a.tif", "is a picture in CMYK|is no picture that can be read")


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_cut_off(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    write_picture(path, picture(shape=(200, 200)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, "cut off or damaged|is no picture that can be read")


def test_16_bits_cut_off(tmp_path):
    path = tmp_path / "a.png"
    write_picture(path, picture(np.uint16, shape=(200, 200)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, "cut off or damaged")


@pytest.mark.parametrize("side", [13400, 20_000, 30_000])
def test_too_many_pixels_are_refused_by_the_header(tmp_path, side):
    png_of_zeros(tmp_path / "a.png", side, side)
    refused(
        tmp_path / "a.png", f"has more than {PIXELS_AT_ONCE:,} pixels .a square of 13,377 x 13,377.: cut out the part"
    )


@pytest.mark.parametrize(
    ("made", "name", "message"),
    [
        (picture(alpha=True), "a.jpg", "JPEG cannot keep alpha, the picture has it: choose .png, .tif or .webp"),
        (picture(np.uint16), "a.jpg", "JPEG cannot keep 16 bit, the picture has them: choose .png or .tif"),
        (picture(np.uint16), "a.webp", "WEBP cannot keep 16 bit"),
        (picture(np.uint16, 1, alpha=True), "a.tif", "16-bit grey with alpha as TIFF: choose .png"),
        (picture(), "a.gif", "wanted an ending of .png, .jpg, .jpeg, .tif, .tiff, .webp: rename it"),
        (picture(), "a", "wanted an ending of .png"),
        (
            Picture(np.zeros((1, 16_384, 3), np.uint8)),
            "a.webp",
            "WEBP has at most 16,383 .* has 16384 x 1: choose",
        ),
        (Picture(np.zeros((65_501, 1, 1), np.uint8)), "a.jpg", "JPEG has at most 65,500 .* has 1 x 65501: choose .png"),
    ],
)
def test_formats_that_cannot_keep_it(tmp_path, made, name, message):
    with pytest.raises(PictureError, match=message):
        check_format(tmp_path / name, made)
    with pytest.raises(PictureError, match=message):
        write_picture(tmp_path / name, made)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(PictureError, match="cannot be written"):
        write_picture(tmp_path / "none" / "a.png", picture())


def test_what_a_picture_is():
    assert picture().kind == "8-bit RGB"
    assert picture(np.uint16, 1, alpha=True).kind == "16-bit grey with alpha"
    assert (picture(np.uint16).bits, picture(np.uint16).white, picture().shape) == (16, 65535, (20, 30))
