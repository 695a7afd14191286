"""A first minute with an installed wheel, away from the checkout: models, package data, and one fill."""

import sys
from importlib.resources import files
from pathlib import Path

import numpy as np

import lacunar as lc

assert Path(lc.__file__).is_relative_to(sys.prefix), f"{lc.__file__} is not the installed wheel"
package = files("lacunar")
assert (package / "py.typed").is_file()
shipped = {folder.name for folder in (package / "models" / "shipped").iterdir() if folder.is_dir()}
assert shipped >= {"face-full", "lst-small", "picture-small", "water-small"}, shipped
for name in shipped:
    assert (package / "models" / "shipped" / name / "model.safetensors").is_file(), name

rows, cols = np.indices((64, 64))
lst = 300 + 4 * np.sin(rows / 9) * np.cos(cols / 13)  # kelvin
gap = np.hypot(rows - 32, cols - 26) < 10
value, source, sigma = lc.fill(np.where(gap, np.nan, lst), preset="instant")[:3]
assert (value[~gap] == lst[~gap]).all()
assert (source == np.where(gap, 2, 1)).all()
assert 0 < sigma[gap].mean() < 2
error = float(np.sqrt(np.mean((value - lst)[gap] ** 2)))
assert error < 1, error
print(f"lacunar {lc.__version__} from {Path(lc.__file__).parent}: RMSE of the fill {error:.3f} K")
