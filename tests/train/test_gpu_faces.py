"""Hidden faces drawn on a device are those that the data set of training draws on the CPU."""

import numpy as np
import pytest
import torch

from gpu_kit.faces import FaceFeed, membrane
from lacunar.interpolate.membrane import RESIDUAL_SIGMA, membrane_fill
from lacunar.interpolate.pca_prior import fit_prior
from lacunar.train.picture_data import FACE_CENTRE, FACE_SIDE, PictureDataset, PicturePack, cut_square, draw_missing

SIDE = 20


def faces(count: int) -> np.ndarray:
    """Smooth pictures (count, 109, 89, 3) that differ in phase."""
    rows, cols = np.indices((109, 89))
    phase = np.random.default_rng(0).uniform(0, 6, (count, 3, 1, 1))
    waves = np.sin(rows / 20 + phase) + np.cos(cols / 15 - phase)
    return np.moveaxis(127 + 50 * waves, 1, 3).astype(np.uint8)


def dataset(*, variation: float, unconditional: float) -> PictureDataset:
    pack = PicturePack(faces(40), np.zeros((0, 128, 128, 3), np.uint8))
    squares = np.stack([cut_square(face, FACE_CENTRE, FACE_SIDE, size=SIDE) for face in pack.faces])
    prior, pool = fit_prior(squares, 5, seed=0), draw_missing(6, SIDE, seed=1)
    return PictureDataset(
        pack,
        pool,
        framing="face",
        texture_share=0.0,
        unconditional_share=unconditional,
        variation=variation,
        seed=0,
        prior=prior,
    )


@pytest.mark.parametrize("shape", [(20, 20), (13, 9)])
def test_the_membrane_is_that_of_the_cpu(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    pictures, missing = rng.normal(size=(3, *shape, 2)).astype(np.float32), rng.random((3, *shape)) < 0.6
    missing[0] = False
    known = torch.from_numpy(~missing)[:, None]
    values = torch.where(known, torch.from_numpy(pictures).permute(0, 3, 1, 2), 0.0)
    wanted = np.stack([membrane_fill(*pair) for pair in zip(pictures, missing, strict=True)])
    np.testing.assert_allclose(membrane(values, known).permute(0, 2, 3, 1), wanted, atol=1e-6)


def test_the_base_is_the_prior_s_answer() -> None:
    drawn = dataset(variation=0.0, unconditional=0.0)
    feed = FaceFeed(drawn, 6, torch.device("cpu"))
    pictures = [drawn._picture(index, np.random.default_rng(index)) for index in range(6)]
    found = feed.filled(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2), torch.arange(6))
    assert drawn.prior is not None
    wanted = np.stack([drawn.prior.filled(*pair) for pair in zip(pictures, drawn.pool, strict=True)])
    np.testing.assert_allclose(found.permute(0, 2, 3, 1), wanted, atol=2e-4)


def test_a_square_without_variation_is_that_of_the_cpu() -> None:
    drawn = dataset(variation=0.0, unconditional=0.0)
    found = FaceFeed(drawn, 4, torch.device("cpu"))._cut(torch.arange(4))
    wanted = [cut_square(face, FACE_CENTRE, FACE_SIDE, size=SIDE) for face in drawn.pack.faces[:4]]
    np.testing.assert_allclose(found.permute(0, 2, 3, 1), np.stack(wanted), atol=0.06)  # pillow averages, too


def test_a_batch_has_what_the_data_set_has() -> None:
    drawn = dataset(variation=1.0, unconditional=0.5)
    feed = FaceFeed(drawn, 64, torch.device("cpu"))
    batch, one = feed.batch(), drawn[0, 0]
    assert {name: value.shape[1:] for name, value in batch.items()} == {name: v.shape for name, v in one.items()}
    free = batch["condition"][:, 3].flatten(1).amax(dim=1) == 1
    assert 16 < int(free.sum()) < 48
    assert (batch["missing"][free] == 1).all()
    assert not batch["condition"][free, :3].any()
    assert (batch["condition"][~free, 3] == np.float32(RESIDUAL_SIGMA)).all()
    known = (batch["missing"] == 0).expand_as(batch["x_0"])
    assert batch["x_0"][known].abs().max() < 1e-3  # the base agrees with what is known
    assert feed.arrived == 1
    assert not torch.equal(feed.batch()["x_0"], batch["x_0"])
