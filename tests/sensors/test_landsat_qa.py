"""Quality bits against values whose meaning the USGS states, and against the clouds of real scenes."""

import numpy as np
import pytest
import rasterio

from lacunar.errors import ProductError
from lacunar.sensors.landsat_qa import GAP_CLASSES, QaClass, qa_flags

# Values as they stand in real QA_PIXEL bands, and what they mean (LSDS-1822, table of value interpretations).
COLLECTION_2 = {
    1: {"fill"},
    21824: {"clear"},
    21952: {"clear", "water"},
    21762: {"dilated_cloud"},
    22280: {"cloud"},
    23888: {"clear", "cloud_shadow"},
    23826: {"dilated_cloud", "cloud_shadow"},
    30048: {"clear", "snow"},
    55052: {"cloud", "cirrus"},
}
# BQA of Collection 1 (LSDS-1656): clear, cloud of high confidence, shadow, snow, cloud with cirrus, medium cirrus.
COLLECTION_1 = {
    1: {"fill"},
    2720: {"clear"},
    2800: {"cloud"},
    2976: {"clear", "cloud_shadow"},
    3744: {"clear", "snow"},
    6896: {"cloud", "cirrus"},
    4768: {"clear"},
}
# Before the collections (LSDS-1574): clear, cloud, cirrus, snow, water.
PRE_COLLECTION = {
    1: {"fill"},
    20480: {"clear"},
    53248: {"cloud"},
    28672: {"clear", "cirrus"},
    61440: {"cloud", "cirrus"},
    23552: {"clear", "snow"},
    20528: {"clear", "water"},
    36864: {"clear"},  # medium confidence of cloud
}
CLASSES = QaClass.__args__


@pytest.mark.parametrize(
    ("form", "table"),
    [("collection_2", COLLECTION_2), ("collection_1", COLLECTION_1), ("pre_collection", PRE_COLLECTION)],
)
def test_each_value_has_its_classes_and_no_other(form, table):
    values = np.array(list(table), dtype=np.uint16)
    for name in CLASSES:
        wanted = [name in meaning for meaning in table.values()]
        assert qa_flags(values, [name], form=form).tolist() == wanted, name


def test_shadow_and_cloud_bits_are_not_swapped():
    cloud, shadow = np.array([1 << 3]), np.array([1 << 4])
    assert qa_flags(cloud, ["cloud"], form="collection_2").all()
    assert not qa_flags(cloud, ["cloud_shadow"], form="collection_2").any()
    assert qa_flags(shadow, ["cloud_shadow"], form="collection_2").all()
    assert not qa_flags(shadow, ["cloud"], form="collection_2").any()


def test_gap_classes_are_joined_and_leave_fill_and_snow_out():
    values = np.array(list(COLLECTION_2))
    wanted = [bool(meaning & set(GAP_CLASSES)) for meaning in COLLECTION_2.values()]
    assert qa_flags(values, GAP_CLASSES, form="collection_2").tolist() == wanted
    assert not qa_flags(values, [], form="collection_2").any()


def test_signed_files_hold_the_same_bits():
    unsigned = np.array([55052, 22280], dtype=np.uint16)
    signed = unsigned.astype(np.int16)
    assert signed[0] < 0
    assert qa_flags(signed, ["cirrus"], form="collection_2").tolist() == [True, False]


def test_zero_is_fill_and_nothing_else():
    zero = np.zeros(1, dtype=np.uint16)
    for form in ("collection_2", "collection_1", "pre_collection"):
        assert [name for name in CLASSES if qa_flags(zero, [name], form=form).any()] == ["fill"]


def test_real_scenes_are_fill_or_clear_or_hidden(shared):
    # CFMask's own rule: a pixel is clear exactly where it is neither fill, cloud nor dilated cloud.
    for path in sorted((shared / "data" / "clouds").glob("*_QA_PIXEL.TIF")):
        with rasterio.open(path) as dataset:
            qa = dataset.read(1)
        hidden = qa_flags(qa, ["fill", "cloud", "dilated_cloud"], form="collection_2")
        np.testing.assert_array_equal(qa_flags(qa, ["clear"], form="collection_2"), ~hidden, err_msg=path.name)


def test_unknown_class_says_which_exist():
    with pytest.raises(
        ProductError, match=r"quality class 'haze': wanted some of fill, dilated_cloud, cirrus"
    ) as caught:
        qa_flags(np.zeros(1, dtype=np.uint16), ["haze"], form="collection_2")
    assert "\n" not in str(caught.value)
