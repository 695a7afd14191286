"""A stranger follows docs/how-to/extend.md literally, in a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import lacunar

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "extend.md"

TRIAL = """
import numpy as np, rasterio, torch
from rasterio.transform import from_origin
import lacunar as lc
from lacunar.diffusion.operators import EveryNthRow

rng = np.random.default_rng(0)
kelvin = 300 + rng.normal(0, 1, (48, 48))
stored = (kelvin / 0.02).astype(np.uint16)
stored[10:20, 10:20] = 0
profile = {"driver": "GTiff", "height": 48, "width": 48, "count": 1, "dtype": "uint16", "crs": "EPSG:32631"}
with rasterio.open("ECO2LSTE_1.tif", "w", transform=from_origin(5e5, 5e6, 70, 70), **profile) as file:
    file.write(stored, 1)
with lc.open_scene("ECO2LSTE_1.tif") as scene:
    lst = scene.lst()
assert lst.attrs["units"] == "K"
assert int(lst.isnull().sum()) == 100
assert abs(float(lst.mean()) - 300) < 0.2

operator = EveryNthRow(3)
x, y = torch.randn(2, 3, 12, 5), torch.randn(2, 3, 4, 5)
torch.testing.assert_close((operator.forward(x) * y).sum(), (x * operator.adjoint(y)).sum())
"""


def test_a_stranger_adds_a_sensor_a_sampler_and_an_operator(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    sensor, opening, sampler, row, operator = blocks[:5]
    assert max(len(sensor.splitlines()) + len(opening.splitlines()), len(sampler.splitlines()) + 1) < 40
    package = tmp_path / "lacunar"
    shutil.copytree(Path(lacunar.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))

    def put(file, text, before):
        path = package / file
        content = path.read_text()
        assert content.count(before) == 1, before
        path.write_text(content.replace(before, text + before))

    (package / "sensors" / "ecostress.py").write_text(sensor)
    put("sensors/scene.py", opening, "    from lacunar.sensors.raster_scene import RasterScene\n")
    put("diffusion/samplers.py", row, '        "repaint": Sampler(')
    for file, text in (("diffusion/solvers.py", sampler), ("diffusion/operators.py", operator)):
        path = package / file
        path.write_text(f"{path.read_text()}\n\n{text}")

    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    (tmp_path / "trial.py").write_text(TRIAL)
    subprocess.run([sys.executable, "trial.py"], cwd=tmp_path, env=environment, check=True)
    command = "fill ECO2LSTE_1.tif -o filled.tif --sampler noisy --evaluations 2 --samples 2 --background kriging"
    for words in (command.split(), ["fill", "--help"]):
        done = subprocess.run(
            [sys.executable, "-m", "lacunar", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "noisy" in done.stdout
    assert (tmp_path / "filled.tif").is_file()
