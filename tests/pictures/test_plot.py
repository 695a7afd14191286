"""Contact sheets: what is shown, in which order, and the deviation in numbers."""

import numpy as np
import pytest

from lacunar.pictures.plot import contact_sheet

GAP = np.zeros((20, 30), bool)
GAP[5:10, 5:15] = True


def shown(figure):
    return {axis.get_title(): np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.images}


def test_every_sample_the_mean_and_the_deviation():
    original = np.full((20, 30, 3), 0.25)
    samples = [np.where(GAP[..., None], level, original) for level in (0.2, 0.4, 0.6)]
    panels = shown(contact_sheet(original, GAP, samples, title="a face"))
    assert list(panels) == [
        "original",
        "masked",
        "sample 1",
        "sample 2",
        "sample 3",
        "mean",
        "deviation (% of white)",
    ]
    assert (panels["masked"][GAP] == 0.5).all()
    np.testing.assert_allclose(panels["mean"][GAP], 0.4)
    deviation = np.ma.filled(panels["deviation (% of white)"], np.nan)
    np.testing.assert_allclose(deviation[GAP], 20.0)  # the standard deviation of 20, 40, 60
    assert np.isnan(deviation[~GAP]).all()


def test_one_sample_has_no_deviation():
    original = np.zeros((20, 30, 3))
    assert list(shown(contact_sheet(original, GAP, [original]))) == ["original", "masked", "sample 1"]


@pytest.mark.parametrize("count", [2, 8, 9])
def test_a_sheet_can_be_drawn(tmp_path, count):
    rng = np.random.default_rng(0)
    figure = contact_sheet(rng.random((20, 30, 3)), GAP, rng.random((count, 20, 30, 3)))
    figure.savefig(tmp_path / "a.png", dpi=40)
    assert (tmp_path / "a.png").stat().st_size > 1000
