"""The style of a filled raster for QGIS: colours of its values, with kelvin told in degrees Celsius."""

from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from numpy.typing import NDArray

from lacunar.geo.raster import RasterSource
from lacunar.geo.windows import blocks_over
from lacunar.sensors.plausible import CELSIUS_ZERO, KELVIN

SEEN = 1000  # pixels a side that tell the range
CLIP_PERCENT = 0.5  # of pixels beyond each end of the colours
STOPS = 9  # colours that the legend names
BLOCK = 1000
DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"


def value_range(path: Path) -> tuple[float, float]:
    """The range of the first band of a raster, its rarest values clipped; (0, 1) of a raster without any."""
    with RasterSource(path) as source:
        step = -(-max(source.shape) // SEEN)
        blocks = blocks_over(source.shape, block=step * max(1, BLOCK // step), halo=0)
        parts = [source.read(block.core, bands=[1]).data[0, ::step, ::step].ravel() for block in blocks]
    seen: NDArray[np.float32] = np.concatenate(parts)
    seen = seen[np.isfinite(seen)]
    if not seen.size:
        return 0.0, 1.0
    low, high = (float(end) for end in np.percentile(seen, (CLIP_PERCENT, 100 - CLIP_PERCENT)))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def qgis_style(low: float, high: float, *, units: str, colours: str = "inferno") -> str:
    """Text of a .qml file, which draws the first band from ``low`` to ``high`` in a colour map of matplotlib's.

    QGIS loads it by itself where it lies beside the raster under its name. Labels of kelvin are in degrees Celsius.

    >>> 'label="26.85 °C"' in qgis_style(280.0, 300.0, units="K")
    True
    """
    from matplotlib import colormaps  # loads matplotlib, which a fill without a figure does not need

    zero, unit = (CELSIUS_ZERO, "°C") if units.lower() in KELVIN else (0.0, "°C" if units == "degC" else units)
    shares = np.linspace(0, 1, STOPS)
    hexes = ["#{:02x}{:02x}{:02x}".format(*colour[:3]) for colour in colormaps[colours](shares, bytes=True)]
    ends = {"classificationMin": f"{low:.9g}", "classificationMax": f"{high:.9g}"}
    root = Element("qgis", version="3.22", styleCategories="Symbology")
    kind = {"type": "singlebandpseudocolor", "band": "1", "opacity": "1", "alphaBand": "-1", "nodataColor": ""}
    renderer = SubElement(SubElement(root, "pipe"), "rasterrenderer", kind | ends)
    shader = SubElement(
        SubElement(renderer, "rastershader"),
        "colorrampshader",
        {
            **{"colorRampType": "INTERPOLATED", "classificationMode": "1", "clip": "0", "labelPrecision": "2"},
            **{"minimumValue": f"{low:.9g}", "maximumValue": f"{high:.9g}"},
        },
    )
    for share, colour in zip(shares, hexes, strict=True):
        value = low + share * (high - low)
        label = f"{value - zero:.2f} {unit}".strip()
        SubElement(shader, "item", alpha="255", value=f"{value:.9g}", label=label, color=colour)
    indent(root)
    return f"{DOCTYPE}{tostring(root, encoding='unicode')}\n"
