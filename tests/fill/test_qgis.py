"""The style for QGIS: values on the file's scale, labels in °C, colours in their order."""

from xml.etree import ElementTree

import numpy as np
import pytest

import lacunar as lc
from commands import write
from lacunar.fill.qgis import qgis_style
from surfaces import surface


def items_of(path):
    renderer = ElementTree.parse(path).find("pipe/rasterrenderer")
    assert (renderer.get("type"), renderer.get("band")) == ("singlebandpseudocolor", "1")
    return renderer.findall("rastershader/colorrampshader/item")


@pytest.mark.parametrize(("units", "zero", "unit"), [("K", 273.15, " °C"), ("m", 0.0, " m"), ("", 0.0, "")])
def test_values_are_the_files_and_kelvin_is_told_in_celsius(tmp_path, units, zero, unit):
    path = tmp_path / "a.qml"
    path.write_text(qgis_style(280, 300, units=units), encoding="utf-8")
    items = items_of(path)
    values = [float(item.get("value")) for item in items]
    np.testing.assert_allclose(values, np.linspace(280, 300, len(items)), atol=1e-5)
    assert [item.get("label") for item in items] == [f"{value - zero:.2f}{unit}" for value in values]
    assert (items[0].get("color"), items[-1].get("color")) == ("#000003", "#fcfea4")


def test_a_fill_writes_it_beside_its_raster_where_it_is_asked_for(out):
    values = surface((64, 64)).astype(np.float32)
    values[20:30, 20:30] = np.nan
    write(out / "gaps.tif", values)
    lc.fill_file(out / "gaps.tif", out / "plain.tif")
    assert not (out / "plain.qml").exists()
    lc.fill_file(out / "gaps.tif", out / "filled.tif", qgis_style=True)
    low, *_, high = (float(item.get("value")) for item in items_of(out / "filled.qml"))
    assert np.nanmin(values) - 1 < low < high < np.nanmax(values) + 1
