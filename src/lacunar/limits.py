"""What an input or an option may cost at most: one budget, checked before any work is done, whatever role a file plays.

What is processed block by block may be large; what is held whole may not. Each number is far beyond real use.
"""

from lacunar.errors import LacunarError

PIXELS = 2**32  # of a raster that is read block by block: 65,536 x 65,536
PIXELS_AT_ONCE = 178_956_970  # of a picture, which is held whole; where Pillow takes a file for a decompression bomb
MASK_PIXELS = 2**30  # of a map of water, whose mask is held whole for its polygons: 1 GiB, 32,768 x 32,768
VALUES_AT_ONCE = 2**29  # pixels times bands of one read: 2 GiB of float32
BANDS = 1024  # of a raster; a hyperspectral image has some hundreds
BLOCK_BYTES = 2**28  # that a file's own block (tile or strip) takes once it is unpacked

ARCHIVE_MEMBERS = 1000  # files of a product's archive; as delivered it has about 25
ARCHIVE_BYTES = 2**34  # unpacked; as delivered a product has about 1 to 2 GB
HEADER_BYTES = 2**20  # of one header of an archive, such as its pax header
TEXT_BYTES = 2**24  # of a JSON file, a list of paths or an XML file beside a raster

SAMPLES = 256  # drawn of one image; a block of so many takes some GiB
TIMESTEPS = 100_000  # of a noise schedule
LAYERS = 64  # blocks at a level of a network, and its levels
CHANNELS = 2**14  # of a layer, and the side of a network's tile


def check_limit(got: float, most: int, what: str, advice: str, *, error: type[LacunarError] = LacunarError) -> None:
    """Refuse a count above its limit; ``what`` names what is counted, ``advice`` says what to do.

    >>> check_limit(2000, SAMPLES, "samples", "ask for fewer")
    Traceback (most recent call last):
    lacunar.errors.LacunarError: got 2,000 samples: wanted at most 256; ask for fewer
    """
    if got > most:
        count = f"{got:,}" if isinstance(got, int) else f"{got:,.0f}"  # a whole number may be beyond any float
        raise error(f"got {count} {what}: wanted at most {most:,}; {advice}")
