"""
Train on your own data
======================

Every model is trained by one command from a recipe. Here a tiny run of two steps on simulated temperature shows the way; a
real one takes the same command, more rasters, and hours.
"""

import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import rioxarray

from lacunar.sensors.simulated import simulate_product

# %%
# Training data are single-band rasters in kelvin, named ``PLACE_anything.tif``: places are never split between training and
# validation.
folder = Path("tutorial_training")
folder.mkdir(exist_ok=True)
for seed, place in enumerate(("north", "south", "east", "west")):
    product = simulate_product(f"tutorial_{place}", size=160, seed=seed, overwrite=True)
    rioxarray.open_rasterio(product.truth_path).rio.to_raster(folder / f"{place}_date.tif")

command = "train lst-prior --data tutorial_training --pack tutorial.npz --steps 2 --run tutorial_run"
done = subprocess.run([sys.executable, "-m", "lacunar", *command.split()], capture_output=True, text=True, check=True)
print(done.stdout[-600:])

# %%
# The run's folder holds a checkpoint (the same command goes on from it), the loss, and the model with its card.
print(
    *sorted(str(path.relative_to("tutorial_run")) for path in Path("tutorial_run").rglob("*") if path.is_file()),
    sep="\n",
)
plt.imshow(rioxarray.open_rasterio(folder / "north_date.tif").squeeze() - 273.15, cmap="inferno")
plt.colorbar(label="°C")
plt.title("one of the rasters it learned from")
plt.show()
