"""No output replaces an input, whatever its role; what is kept of a run knows every file that it was made from."""

import shutil
import tarfile

import numpy as np
import pytest
import rasterio
from PIL import Image

from commands import contents, write
from gap_models import tiny_model
from lacunar.cli import BAD_INPUT
from lacunar.fill import blocks
from lacunar.geo.windows import blocks_over
from lacunar.models.checkpoint import save_model
from products import mtl_of

VRT = """<VRTDataset rasterXSize="24" rasterYSize="24"><SRS>EPSG:32632</SRS>
<GeoTransform>400000,30,0,5700000,0,-30</GeoTransform><VRTRasterBand dataType="Float32" band="1">
<NoDataValue>nan</NoDataValue><SimpleSource><SourceFilename relativeToVRT="1">in.tif</SourceFilename>
<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""


@pytest.fixture
def folder(tmp_path):
    """A raster with a gap, a VRT of it, and a model folder."""
    values = np.random.default_rng(0).normal(290, 3, (24, 24)).astype(np.float32)
    values[5:9, 5:9] = np.nan
    write(tmp_path / "in.tif", values, nodata=np.nan)
    (tmp_path / "of_in.vrt").write_text(VRT)
    save_model(tmp_path / "model", tiny_model())
    return tmp_path


def kept(lacunar, folder, *arguments):
    """A command is refused, and nothing in a folder is another than before."""
    before = contents(folder)
    ran = lacunar(*arguments, "--overwrite")
    assert ran.code == BAD_INPUT, ran.out + ran.err
    assert "this very run reads" in ran.err or "input of this very run" in ran.err, ran.err
    assert contents(folder) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("in.tif", "-o", "in.tif"),
        ("of_in.vrt", "--allow-vrt", "-o", "in.tif"),
        ("truth.tif", "--reference", "of_in.vrt", "--allow-vrt", "-o", "in.tif"),
        ("in.tif", "-o", "model/config.tif"),
        ("in.tif", "-o", "link.tif"),
        ("@list.json", "-o", "list.tif"),
        ("in.tif", "--truth", "truth.tif", "-o", "truth.tif"),
        ("in.tif", "--figure", "model/README.png", "-o", "model/card.tif"),
    ],
)
def test_a_fill_replaces_no_input(lacunar, folder, monkeypatch, arguments):
    monkeypatch.chdir(folder)
    shutil.copy(folder / "in.tif", folder / "truth.tif")
    (folder / "link.tif").symlink_to(folder / "in.tif")
    (folder / "list.json").write_text("in.tif\n")
    if arguments[0].startswith("@"):  # several scenes go into a folder
        ran = lacunar("fill", "@list.json", "-o", "list.tif", "--model", "model", "--overwrite")
        assert ran.code == BAD_INPUT
        assert (folder / "list.json").read_text() == "in.tif\n"
        return
    kept(lacunar, folder, "fill", *arguments, "--model", "model", "--samples", 2)


def test_water_and_pictures_replace_no_file_of_a_model(lacunar, folder, monkeypatch):
    monkeypatch.chdir(folder)
    picture = np.zeros((64, 64), np.uint8)
    picture[20:30, 20:30] = 255
    Image.fromarray(picture).save(folder / "mask.png")
    Image.fromarray(255 - picture).save(folder / "face.png")
    (folder / "model" / "a.png").write_bytes(b"mine")
    kept(lacunar, folder, "inpaint", "face.png", "--mask", "mask.png", "-o", "model/a.png", "--model", "model")
    kept(lacunar, folder, "inpaint", "face.png", "--mask", "mask.png", "-o", "mask.png")


def test_a_product_keeps_its_archive_and_its_metadata_in_every_form(lacunar, product, tmp_path):
    other_form = mtl_of(product).with_suffix(".json")
    other_form.write_text("{}")
    kept(lacunar, product, "lst", product, "-o", other_form.with_suffix(".tif"), "--samples", 2)
    archive = tmp_path / "product.tar"
    with tarfile.open(archive, "w") as made:
        for path in product.iterdir():
            made.add(path, path.name)
    ran = lacunar("lst", archive, "-o", archive, "--samples", 2, "--overwrite")
    assert ran.code == BAD_INPUT
    assert tarfile.is_tarfile(archive)


def test_convert_and_train_keep_what_they_start_from(lacunar, folder):
    before = contents(folder)
    assert lacunar("convert", folder / "model", folder / "model", "--overwrite").code == BAD_INPUT
    (folder / "model" / "mine.txt").write_text("mine")
    with pytest.raises(Exception, match="is no model folder"):
        save_model(folder / "model", tiny_model(), overwrite=True)
    (folder / "model" / "mine.txt").unlink()
    assert contents(folder) == before


def shifted(path):
    with rasterio.open(path, "r+") as dataset:
        dataset.write(dataset.read() + np.float32(5))


def described(path):
    path.with_name("in.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><UnitType>m</UnitType></PAMRasterBand></PAMDataset>"
    )


@pytest.mark.parametrize("change", [shifted, described])
@pytest.mark.parametrize("role", ["raster", "reference"])
def test_blocks_of_other_files_behind_an_input_are_refused(lacunar, folder, monkeypatch, change, role):
    monkeypatch.chdir(folder)
    shutil.copy(folder / "in.tif", folder / "own.tif")
    inputs = ("of_in.vrt",) if role == "raster" else ("own.tif", "--reference", "of_in.vrt")
    monkeypatch.setattr(blocks, "blocks_of", lambda shape: blocks_over(shape, block=12, halo=0))
    told = ("fill", *inputs, "--allow-vrt", "-o", "out.tif", "--model", "model", "--samples", 2, "--resume")
    fill, seen = blocks.fill_blocks, []

    def interrupted(*given, **more):
        for block in fill(*given, **more):
            if seen:
                raise KeyboardInterrupt
            seen.append(block)
            yield block

    monkeypatch.setattr("lacunar.fill.job.fill_blocks", interrupted)
    assert lacunar(*told).code == 130
    assert (folder / ".out.tif.blocks").is_dir()
    monkeypatch.setattr("lacunar.fill.job.fill_blocks", fill)
    change(folder / "in.tif")
    ran = lacunar(*told)
    assert ran.code == BAD_INPUT
    assert "blocks of another run, which differs in files" in ran.err
