"""Our physics with the air and the emissivity of a Level-2 product gives the USGS's own surface temperature."""

import numpy as np

from lacunar.sensors import sebal
from lacunar.sensors.scene import open_scene
from lst_levels import Air, differences


def test_st_b10_is_reproduced(shared):
    product = shared / "wild/LC08_L2SP_008059_20191201_20200825_02_T1"
    with open_scene(product) as scene:
        st = scene.measured()
        clear = st.known & scene.qa_flags(["clear"])
    air = Air.of(product)
    clear &= np.isfinite(air.total)
    constants = {"k1": 774.8853, "k2": 1321.0789}  # Landsat 8, band 10
    lst = sebal.lst(air.corrected(air.emissivity), air.emissivity, **constants)
    assert clear.sum() > 500
    assert abs((lst - st.values)[clear].mean()) < 0.2
    assert np.quantile(abs(lst - st.values)[clear], 0.95) < 0.3
    uncorrected = sebal.lst(air.radiance, air.emissivity, **constants)
    assert (uncorrected - st.values)[clear].mean() < -5  # a humid tropical scene
    assert differences(np.array([1.0, -1.0, 1.0, -1.0])) == ("0.00", "1.00", "1.00", "1.00")
