"""Lakes of a scene as a map and as polygons with their area."""

import lacunar as lc
from lacunar.sensors.simulated import simulate_product

product = simulate_product("product", size=96, seed=3, cloud_fraction=0.0)  # or your own product or raster
with lc.open_scene(product.folder) as scene:
    bands = scene.bands()  # reflectance: blue, green, red, nir, swir1, swir2
found = lc.segment(bands)
lakes = lc.polygonize(found, min_area=10_000)  # square metres; a GeoDataFrame
lakes.to_file("lakes.gpkg")

share = float((found["class"] == 1).mean())
print(f"{share:.1%} of the scene is water; lakes of one hectare or more: {len(lakes)}")
print(lakes[["id", "area_m2", "perimeter_m", "mean_probability"]].round(2).to_string(index=False))
