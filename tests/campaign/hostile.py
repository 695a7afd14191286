"""Cases that are made to harm: files that read other files or the network, that never end, or that run code."""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib

import rasterio
from files import face, fill, give_zones, inpaint, lst, water, zonal
from rasterio.transform import from_origin
from trial import Case

SIDE = 40
HEAD = f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><SRS>EPSG:32632</SRS><GeoTransform>500000,30,0,5200000,0,-30</GeoTransform>'
RAW = '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand"><SourceFilename relativeToVRT="{r}">{f}</SourceFilename><ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>1</LineOffset></VRTRasterBand></VRTDataset>'
SIMPLE = '<VRTRasterBand dataType="Float32" band="1"><SimpleSource><SourceFilename relativeToVRT="{r}">{f}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>'
PYTHON = '<VRTRasterBand dataType="Float32" band="1" subClass="VRTDerivedRasterBand"><PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage><PixelFunctionCode><![CDATA[\ndef f(a, o, *r, **k):\n    open("{f}", "w").write("x")\n]]></PixelFunctionCode><SimpleSource><SourceFilename relativeToVRT="1">s.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
WMS = '<GDAL_WMS><Service name="TMS"><ServerUrl>{u}</ServerUrl></Service><DataWindow><UpperLeftX>500000</UpperLeftX><UpperLeftY>5200000</UpperLeftY><LowerRightX>501200</LowerRightX><LowerRightY>5198800</LowerRightY><SizeX>40</SizeX><SizeY>40</SizeY></DataWindow><Projection>EPSG:32632</Projection><BlockSizeX>40</BlockSizeX><BlockSizeY>40</BlockSizeY><BandsCount>1</BandsCount><Cache/></GDAL_WMS>'
WCS = "<WCS_GDAL><ServiceURL>{u}?</ServiceURL><CoverageName>c</CoverageName></WCS_GDAL>"
WMTS = "<GDAL_WMTS><GetCapabilitiesUrl>{u}</GetCapabilitiesUrl></GDAL_WMTS>"
GTI = "<GDALTileIndexDataset><IndexDataset>{f}</IndexDataset></GDALTileIndexDataset>"
STACTA = '{{"type":"Feature","stac_version":"1.0.0","stac_extensions":["tiled-assets"],"id":"x","bbox":[0,0,1,1],"properties":{{"tiles:tile_matrix_sets":{{}},"tiles:tile_matrix_links":{{"a":{{"url":"{u}"}}}}}},"asset_templates":{{"bands":{{"href":"{u}","type":"image/tiff"}}}},"links":[]}}'
ROLES = ("raster", "reference", "covariate", "gap mask", "truth", "image", "picture", "mask", "product band")


def texts(folder, url):
    """Files that only look like images: what they hold by the name of what they do."""
    secret, image = folder / "elsewhere" / "canary.txt", folder / "elsewhere" / "canary.tif"
    return {
        "VRT of a file of the system": HEAD + RAW.format(r=0, f=secret),
        "VRT of a relative file": HEAD + RAW.format(r=1, f="../elsewhere/canary.txt"),
        "VRT of an image elsewhere": HEAD + SIMPLE.format(r=0, f=image),
        "VRT of the network": HEAD + SIMPLE.format(r=0, f=f"/vsicurl/{url}"),
        "VRT of a web address": HEAD + SIMPLE.format(r=0, f=url),
        "VRT of a stream": HEAD + SIMPLE.format(r=0, f=f"/vsicurl_streaming/{url}"),
        "VRT of a .zip elsewhere": HEAD + SIMPLE.format(r=0, f=f"/vsizip/vsicurl/{url}/a.tif"),
        "VRT that runs Python": HEAD + PYTHON.format(f=folder / "written"),
        "VRT of itself": HEAD + SIMPLE.format(r=1, f="raster.tif"),
        "VRT of a whole-number size": HEAD.replace(f'"{SIDE}"', '"2000000000"') + SIMPLE.format(r=0, f=image),
        "WMS": WMS.format(u=url),
        "WCS": WCS.format(u=url),
        "WMTS": WMTS.format(u=url),
        "tile index": GTI.format(f=image),
        "STACTA": STACTA.format(u=url),
        "STACIT": json.dumps({"type": "FeatureCollection", "stac_version": "1.0.0", "features": [{"type": "Feature", "stac_version": "1.0.0", "properties": {"proj:epsg": 32632, "proj:transform": [30, 0, 5e5, 0, -30, 5e6], "proj:shape": [40, 40]}, "assets": {"a": {"href": url}}}]}),
        "XML with a file as entity": f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file://{secret}">]><VRTDataset>&e;</VRTDataset>',
        "XML with a remote DTD": f'<?xml version="1.0"?><!DOCTYPE x SYSTEM "{url}"><LANDSAT_METADATA_FILE/>',
        "MRF of the network": f"<MRF_META><CachedSource><Source>/vsicurl/{url}</Source></CachedSource><Raster><Size x='40' y='40' c='1'/></Raster></MRF_META>",
        "GeoJSON": '{"type":"FeatureCollection","features":[]}',
        "PDF": "%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>",
        "OZI map": f"OziExplorer Map Data File Version 2.2\nx\n{image}\n1,Map Code,\n",
        "link as text": str(secret),
    }  # fmt: skip


def in_a_role(world, folder, role, name):
    """A command that is given a file in/NAME in a role."""
    if role in ("reference", "covariate", "gap mask", "truth"):
        world.give("rasters/gtiff.tif", folder, "good.tif")
        return fill(world, "in/good.tif", f"--{role.replace(' ', '-')}", f"in/{name}")
    if role == "image":
        return water(world, f"in/{name}")
    if role == "picture":
        world.give("pictures/mask.png", folder)
        return inpaint(world, f"in/{name}")
    if role == "mask":
        world.give("pictures/rgb.png", folder, "picture.png")
        return (inpaint if len(name) % 2 else face)(world, mask=f"in/{name}")
    if role == "product band":
        product = world.give("products/level1", folder, "product")
        band = next(product.glob("*_B4.TIF"))
        band.unlink()
        (folder / "in" / name).replace(band)
        return lst(world)
    return fill(world, f"in/{name}")


def looks_like_a_raster(rng, world, folder, url):
    """Text in place of an image."""
    (folder / "in").mkdir()
    said = texts(folder, url)
    what = str(rng.choice(list(said)))
    role = str(rng.choice(ROLES))
    name = "raster." + str(rng.choice(["tif", "tif", "png", "vrt", "xml", "jpg", "img"]))
    (folder / "in" / name).write_text(said[what])
    world.give("rasters/gtiff.tif", folder, "s.tif")
    return Case("hostile", role, what, in_a_role(world, folder, role, name))


def looks_like_polygons(rng, world, folder, url):
    """A vector file that reads another, opens the network, or never ends."""
    give_zones(world, folder, "none")
    secret = folder / "elsewhere" / "canary.geojson"
    layer = '<OGRVRTDataSource><OGRVRTLayer name="canary"><SrcDataSource>{}</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>'
    said = {
        "VRT of a file elsewhere": layer.format(secret),
        "VRT of the network": layer.format(f"/vsicurl/{url}"),
        "VRT of an address": layer.format(url),
        "WFS": f"<OGRWFSDataSource><URL>{url}</URL></OGRWFSDataSource>",
        "GeoJSON with a remote CRS": f'{{"type":"FeatureCollection","crs":{{"type":"link","properties":{{"href":"{url}","type":"ogcwkt"}}}},"features":[]}}',
        "deep GeoJSON": '{"type":"FeatureCollection","features":' + "[" * 100_000,
        "GML with a remote schema": f'<ogr:FeatureCollection xmlns:ogr="http://ogr.maptools.org/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://ogr.maptools.org/ {url}"/>',
        "KML with an entity": f'<!DOCTYPE kml [<!ENTITY e SYSTEM "file://{secret}">]><kml>&e;</kml>',
        "an address as text": url,
    }  # fmt: skip
    what = str(rng.choice(list(said)))
    name = f"polygons.{rng.choice(['geojson', 'gpkg', 'shp', 'vrt'])}"
    (folder / "in" / name).write_text(said[what])
    return Case("hostile", "polygons", what, zonal(f"in/{name}"))


def sidecar(rng, world, folder, url):
    """A good raster whose sidecar points elsewhere."""
    secret = folder / "elsewhere" / "canary.tif"
    role = str(rng.choice(ROLES[:6]))
    name = "raster.tif"
    world.give("waters/four.tif" if role == "image" else "rasters/gtiff.tif", folder, name)
    way = str(
        rng.choice(
            [".aux.xml", ".ovr", ".msk", ".tif.aux.xml network", ".imd", "RPB", "world file", ".aux.xml HISTOGRAM"]
        )
    )
    at = folder / "in"
    if way == ".aux.xml":
        (at / "raster.tif.aux.xml").write_text(
            f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{secret}</MDI></Metadata></PAMDataset>'
        )
    elif way == ".tif.aux.xml network":
        (at / "raster.tif.aux.xml").write_text(
            f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">/vsicurl/{url}</MDI></Metadata></PAMDataset>'
        )
    elif way in (".ovr", ".msk"):
        (at / f"raster.tif{way}").write_text(HEAD + SIMPLE.format(r=0, f=secret if rng.random() < 0.5 else url))
    elif way == "world file":
        (at / "raster.tfw").write_text("\n".join(str(rng.choice(["nan", "1e999", "x", "0", "30"])) for _ in range(6)))
    else:
        (at / ("raster.tif.aux.xml" if "aux" in way else f"raster{way}")).write_text(
            "<PAMDataset>" + "<a>" * int(10 ** rng.integers(1, 5))
        )
    return Case("hostile", role, f"sidecar {way}", in_a_role(world, folder, role, name))


def bomb(rng, world, folder, url):
    """A small file that says it is very large."""
    (folder / "in").mkdir()
    role = str(rng.choice(ROLES))
    way = str(
        rng.choice(["TIFF", "BigTIFF", "PNG", "one-bit PNG", "ENVI", "ASCII grid", "JPEG 2000", "bands", "PPM", "GIF"])
    )
    big = int(10 ** rng.integers(5, 10))
    at, name = folder / "in", "raster.tif"
    if way in ("TIFF", "BigTIFF", "bands"):
        side = min(big, 10**6) if way != "bands" else 64
        count = 60000 if way == "bands" else 1
        profile = {"tiled": True, "blockxsize": 8192, "blockysize": 8192} if way != "bands" else {}
        with rasterio.open(
            at / name,
            "w",
            driver="GTiff",
            height=side,
            width=side,
            count=count,
            dtype="uint8",
            crs="EPSG:32632",
            transform=from_origin(5e5, 5.2e6, 30, 30),
            compress="deflate",
            sparse_ok=True,
            BIGTIFF="YES",
            **profile,
        ):
            pass
    elif "PNG" in way:
        name, side = "raster.png", min(big, 60_000)
        depth, colour = (1, 0) if way.startswith("one") else (8, 2)
        row = b"\0" * (1 + (side * (3 if colour else 1) * depth + 7) // 8)
        packer = zlib.compressobj(9)
        data = b"".join(packer.compress(row) for _ in range(min(side, 4000))) + packer.flush()
        (at / name).write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + b"".join(
                _chunk(*part)
                for part in (
                    (b"IHDR", struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)),
                    (b"IDAT", data),
                    (b"IEND", b""),
                )
            )
        )
    elif way == "ENVI":
        name = "raster.dat"
        (at / name).write_bytes(bytes(1000))
        (at / "raster.hdr").write_text(
            f"ENVI\nsamples = {min(big, 2**31 - 1)}\nlines = {min(big, 2**31 - 1)}\nbands = 1\ndata type = 4\nheader offset = 0\ninterleave = bsq\nbyte order = 0\n"
        )
    elif way == "ASCII grid":
        name = "raster.asc"
        (at / name).write_text(
            f"ncols {big}\nnrows {min(big, 10**6)}\nxllcorner 0\nyllcorner 0\ncellsize 30\nNODATA_value -9999\n1 2 3\n"
        )
    elif way == "JPEG 2000":
        name = "raster.jp2"
        data = bytearray((world / "rasters/jp2openjpeg.jp2").read_bytes())
        for box in (data.find(b"ihdr") + 4, data.find(b"\xff\x51") + 6):
            data[box : box + 8] = struct.pack(">II", min(big, 2**31 - 1), min(big, 2**31 - 1))
        (at / name).write_bytes(data)
    elif way == "PPM":
        (at / name).write_bytes(f"P6\n{big} {big}\n255\n".encode() + bytes(100))
    else:
        (at / name).write_bytes(b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(200))
    return Case("hostile", role, f"{way} of {big:.0e}", in_a_role(world, folder, role, name))


def _chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def archive(rng, world, folder, url):
    """Archives that unpack to more than there is, or to elsewhere."""
    (folder / "in").mkdir()
    way = str(
        rng.choice(
            [
                "gzip of zeros",
                "many members",
                "long PAX header",
                "member of 2^60 bytes",
                "corrupt xz",
                "nested",
                "empty",
                "tar of links",
                "zip of zeros",
                "sparse",
            ]
        )
    )
    path = (
        folder
        / "in"
        / {"corrupt xz": "product.tar.xz", "gzip of zeros": "product.tar.gz", "zip of zeros": "product.zip"}.get(
            way, "product.tar"
        )
    )
    if way == "gzip of zeros":
        header = tarfile.TarInfo("LC08_B10.TIF")
        header.size = 2**27
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(header.tobuf())
            for _ in range(16):
                file.write(bytes(2**23))
    elif way == "zip of zeros":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
            made.writestr("LC08_L1TP_MTL.txt", bytes(2**26))
    elif way == "many members":
        block = tarfile.TarInfo("a").tobuf()
        path.write_bytes(block * int(10 ** rng.integers(3, 5)) + bytes(1024))
    elif way == "long PAX header":
        header = tarfile.TarInfo("p")
        header.type, header.size = tarfile.XHDTYPE, int(rng.choice([2**20, 2**33, 2**40]))
        path.write_bytes(header.tobuf() + b"30 path=" + b"a" * 4096)
    elif way == "member of 2^60 bytes":
        header = tarfile.TarInfo("LC08_L1TP_MTL.txt")
        header.size = 2**60
        path.write_bytes(header.tobuf() + b"GROUP = X\n" + bytes(5000))
    elif way == "sparse":
        header = tarfile.TarInfo("LC08_L1TP_MTL.txt")
        header.type, header.size = tarfile.GNUTYPE_SPARSE, 10
        path.write_bytes(header.tobuf() + bytes(5000))
    elif way == "corrupt xz":
        data = bytearray((world / "products/small.tar.xz").read_bytes())
        data[int(rng.integers(len(data)))] ^= 0xFF
        path.write_bytes(data)
    elif way == "tar of links":
        with tarfile.open(path, "w") as made:
            for target in ("/etc/passwd", "../../elsewhere/canary.tif", "."):
                link = tarfile.TarInfo(f"LC08_{len(target)}_B10.TIF")
                link.type, link.linkname = tarfile.SYMTYPE, target
                made.addfile(link)
    elif way == "nested":
        stored = (world / "products/plain.tar").read_bytes()
        with tarfile.open(path, "w") as made:
            member = tarfile.TarInfo("inner.tar")
            member.size = len(stored)
            made.addfile(member, io.BytesIO(stored))
    else:
        path.write_bytes(b"")
    return Case("hostile", "archive", way, lst(world, f"in/{path.name}"))


def metadata(rng, world, folder, url):
    """MTL files whose names and numbers lead astray."""
    product = world.give("products/level1", folder, "product")
    mtl = next(product.glob("*_MTL.txt"))
    text = mtl.read_text()
    band = next(line for line in text.splitlines() if "FILE_NAME_BAND_10" in line)
    odd = str(
        rng.choice(
            [
                "../../elsewhere/canary.tif",
                str(folder / "elsewhere/canary.tif"),
                f"/vsicurl/{url}",
                url,
                f"vrt://{folder}/elsewhere/canary.tif",
                "/vsistdin/",
                ".",
                "",
                "\u202e",
                "a" * 300,
                "/dev/zero",
            ]
        )
    )
    way = str(rng.choice(["name", "cell size", "gain", "deep JSON", "entities", "many groups", "long line", "corners"]))
    if way == "name":
        mtl.write_text(text.replace(band, f'    FILE_NAME_BAND_10 = "{odd}"'))
        if rng.random() < 0.5:
            next(product.glob("*_B10.TIF")).unlink()
    elif way == "cell size":
        value = str(rng.choice(["1e-320", "1e308", "0", "-30", "nan"]))
        mtl.write_text(text.replace("GRID_CELL_SIZE_REFLECTIVE = 30.0", f"GRID_CELL_SIZE_REFLECTIVE = {value}"))
        for path in product.glob("*.TIF"):
            with rasterio.open(path) as dataset:
                numbers, profile = (
                    dataset.read(1),
                    {k: v for k, v in dataset.profile.items() if k not in ("crs", "transform")},
                )
            path.unlink()
            with rasterio.open(path, "w", **profile) as dataset:
                dataset.write(numbers, 1)
    elif way == "gain":
        for key in ("RADIANCE_MULT_BAND_10", "K1_CONSTANT_BAND_10", "REFLECTANCE_MULT_BAND_4", "SUN_ELEVATION"):
            if rng.random() < 0.5:
                line = next(one for one in text.splitlines() if f"{key} =" in one)
                text = text.replace(line, f"    {key} = {rng.choice(['0', '1e-320', '1e308', '-1', '0.0', '90'])}")
        mtl.write_text(text)
    elif way == "deep JSON":
        mtl.unlink()
        mtl.with_suffix(".json").write_text("[" * 100_000 if rng.random() < 0.5 else '{"a":' * 100_000)
    elif way == "entities":
        mtl.unlink()
        lol = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
        mtl.with_suffix(".xml").write_text(
            f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "lol">{lol}]><LANDSAT_METADATA_FILE>&l9;</LANDSAT_METADATA_FILE>'
        )
    elif way == "many groups":
        mtl.write_text("GROUP = A\n" * 60_000)
    elif way == "long line":
        mtl.write_text("A" * 900_000 + " = 1\n" + text)
    else:
        mtl.write_text(text.replace("CORNER_LR_PROJECTION_X_PRODUCT = ", "CORNER_LR_PROJECTION_X_PRODUCT = 1e300"))
    return Case("hostile", "metadata", f"{way} {odd[:40] if way == 'name' else ''}", lst(world))


class _Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def model(rng, world, folder, url):
    """Model folders and checkpoints that run code or ask for all memory."""
    way = str(
        rng.choice(
            [
                "pickle",
                "pickle .pt",
                "layers",
                "channels",
                "timesteps",
                "betas",
                "deep JSON",
                "names of blocks",
                "zip in .pt",
                "remote code",
                "many keys",
                "header",
                "settings",
            ]
        )
    )
    (folder / "in").mkdir()
    big = float(rng.choice([1e9, 1e12, 2**31, 10**5, 10**7]))
    if way in ("pickle", "layers", "channels", "timesteps", "betas", "deep JSON", "header"):
        kind = str(rng.choice(["lst", "water"]))
        target = world.give(f"models/{kind}", folder, "model")
        world.give("rasters/gtiff.tif" if kind == "lst" else "waters/four.tif", folder, "raster.tif")
        config, schedule = (json.loads((target / name).read_text()) for name in ("config.json", "schedule.json"))
        if way == "pickle":
            (target / "model.safetensors").write_bytes(pickle.dumps(_Evil(folder / "written")))
        elif way == "header":
            (target / "model.safetensors").write_bytes(struct.pack("<Q", 2**40) + b"{}")
        elif way == "layers":
            config["layers_per_block"] = int(big)
        elif way == "channels":
            config["block_out_channels" if kind == "lst" else "widths"] = [int(big)] * 2
        elif way == "timesteps":
            schedule["num_timesteps"] = int(big)
        elif way == "betas":
            schedule = {"prediction": "v", "betas": [0.5] * 10**6}
        (target / "config.json").write_text(json.dumps(config) if way != "deep JSON" else "[" * 100_000)
        (target / "schedule.json").write_text(json.dumps(schedule))
        command = fill(world) if kind == "lst" else water(world, "in/raster.tif")
        command[command.index("--model") + 1] = "in/model"
        return Case("hostile", f"model of {kind}", f"{way} {big:.0e}", command)
    for name in ("guided.json", "guided.pt", "diffusers"):
        world.give(f"checkpoints/{name}", folder)
    path, command = (
        folder / "in" / "guided.pt",
        ["convert", "in/guided.pt", "out/model", "--architecture", "in/guided.json"],
    )
    import torch

    if way == "pickle .pt":
        torch.save({"a": _Evil(folder / "written")}, path) if rng.random() < 0.5 else path.write_bytes(
            pickle.dumps(_Evil(folder / "written"))
        )
    elif way == "names of blocks":
        state = torch.load(path, weights_only=True)
        state[f"{rng.choice(['input_blocks', 'output_blocks', 'middle_block'])}.{int(big)}.0.weight"] = torch.zeros(1)
        torch.save(state, path)
    elif way == "zip in .pt":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr("archive/data.pkl", bytes(2**26))
    elif way == "many keys":
        torch.save({(n if rng.random() < 0.5 else f"k{n}"): torch.zeros(1) for n in range(20_000)}, path)
    elif way == "remote code":
        config = folder / "in/diffusers/config.json"
        said = json.loads(config.read_text()) | {
            "auto_map": {"AutoModel": "evil.Model"},
            "_class_name": str(rng.choice(["Evil", "UNet2DModel", "os.system"])),
            "_name_or_path": url,
        }
        config.write_text(json.dumps(said))
        (folder / "in/diffusers/evil.py").write_text(f"open({str(folder / 'written')!r}, 'w')")
        command = ["convert", "in/diffusers", "out/model"]
    else:
        config = folder / "in/diffusers" / str(rng.choice(["config.json", "scheduler_config.json"]))
        said = json.loads(config.read_text())
        key = str(rng.choice([key for key in said if not key.startswith("_")]))
        said[key] = [int(big), [int(big)] * 2, "x", None, -1, {"a": 1}][int(rng.integers(6))]
        config.write_text(json.dumps(said))
        return Case("hostile", "checkpoint", f"{key} = {said[key]!r:.40}", ["convert", "in/diffusers", "out/model"])
    return Case("hostile", "checkpoint", f"{way} {big:.0e}", command)


MAKERS = (looks_like_a_raster, looks_like_a_raster, looks_like_polygons, sidecar, bomb, archive, metadata, model)


def hostile(rng, world, folder, url):
    """One of them."""
    return MAKERS[int(rng.integers(len(MAKERS)))](rng, world, folder, url)
