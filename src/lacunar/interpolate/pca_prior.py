"""What aligned faces have in common: a Gaussian distribution of their pixels, conditioned on those that are known.

Probabilistic principal components (Tipping & Bishop 1999): a picture is mean + components @ y + noise with independent
y_k ~ N(0, variance_k). Given the known pixels, y has a closed form; what it leaves unexplained is carried into the
missing part by a membrane. It is to faces what kriging is to land: the mean that the diffusion starts from.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import LacunarError
from lacunar.interpolate.membrane import membrane_fill

# What the components leave is no independent noise: neighbouring pixels err together, so that a pixel says less about
# y than its variance would have it. The factor was chosen on faces held out of the training.
NOISE_FACTOR = 25.0
# A sample deviates from what is expected by this share of what the distribution says. The whole of it would fit the
# errors of the expected picture best (1 at coarse structure, on faces held out of the training), but a Gaussian sample
# that goes so far shows eyes and shadows that no face has; 0.7 has no more error than the network's samples from noise.
SAMPLE_SHARE = 0.7
ITERATIONS = 4  # of the subspace; the share of variance explained then stays the same to 1e-4
OVERSAMPLED = 32  # directions that are followed beside those that are kept

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class GaussianPrior:
    """A distribution of pictures (H, W, C) in [-1, 1]: K orthonormal components, their variances, a pixel's noise."""

    mean: FloatArray  # (H, W, C)
    components: FloatArray  # (K, H * W * C)
    variances: FloatArray  # (K,)
    noise: float  # variance

    def inverse(self, missing: BoolArray) -> FloatArray:
        """Covariance (K, K) of y given the pixels that are not missing: (diag(1 / variance) + W W^T / noise)^-1."""
        return np.asarray(np.linalg.inv(self._precision(missing)), dtype=np.float32)

    def deviations(self, missing: BoolArray, normals: FloatArray) -> FloatArray:
        """How N samples (N, H, W, C) differ from `filled`, 0 where known, from standard normal numbers (N, K).

        The same for every picture, and `SAMPLE_SHARE` of what the distribution says.
        """
        root = np.linalg.cholesky(self._precision(missing))
        y = SAMPLE_SHARE * np.linalg.solve(root.T, normals.T).T
        changes = (y.astype(np.float32) @ self.components).reshape(-1, *self.mean.shape)
        return np.stack([change + membrane_fill(-change, missing) for change in changes])

    def _precision(self, missing: BoolArray) -> FloatArray:
        known = self._known(missing)
        if known.mean() < 0.5:
            shared = self.components[:, known] @ self.components[:, known].T
        else:  # the components are orthonormal: what is hidden of them is the rest
            shared = np.eye(len(self.components)) - self.components[:, ~known] @ self.components[:, ~known].T
        return np.asarray(shared / np.float32(self.noise) + np.diag(1 / self.variances))

    def given(
        self, picture: NDArray[np.floating], missing: BoolArray, *, inverse: FloatArray | None = None
    ) -> FloatArray:
        """Expected picture (H, W, C) given the known pixels, smooth on them too; ``inverse`` saves most of the time."""
        if picture.shape != self.mean.shape or missing.shape != picture.shape[:2]:
            raise LacunarError(
                f"picture has shape {picture.shape}, missing {missing.shape}; wanted {self.mean.shape}: this prior "
                "knows aligned faces of that size alone"
            )
        known = self._known(missing)
        residual = np.where(missing[..., None], 0, picture - self.mean).astype(np.float32).ravel()
        weight = self.inverse(missing) if inverse is None else inverse
        y = weight @ (self.components @ np.where(known, residual, np.float32(0))) / np.float32(self.noise)
        return np.asarray(self.mean + (y @ self.components).reshape(self.mean.shape), dtype=np.float32)

    def filled(
        self, picture: NDArray[np.floating], missing: BoolArray, *, inverse: FloatArray | None = None
    ) -> FloatArray:
        """Fill with the expected picture, and a membrane over its errors at the known pixels around.

        >>> flat = GaussianPrior(np.zeros((4, 4, 1), np.float32), np.zeros((1, 16), np.float32), np.ones(1), 1.0)
        >>> missing = np.zeros((4, 4), bool)
        >>> missing[1, 1] = True
        >>> bool(np.allclose(flat.filled(np.full((4, 4, 1), 0.5), missing), 0.5))
        True
        """
        expected = self.given(picture, missing, inverse=inverse)
        left = np.where(missing[..., None], 0, picture - expected)
        return np.asarray(expected + membrane_fill(left, missing), dtype=np.float32)

    def _known(self, missing: BoolArray) -> BoolArray:
        """Known values of a flattened picture."""
        return np.repeat(~missing.ravel(), self.mean.shape[2])


def background_mean(prior: GaussianPrior | None, picture: FloatArray, missing: BoolArray) -> FloatArray:
    """The background mean of a picture (H, W, C): expected by a prior of that size if there is one, else a membrane."""
    if prior is None or prior.mean.shape != picture.shape:
        return membrane_fill(picture, missing)
    return prior.filled(picture, missing)


def fit_prior(pictures: FloatArray, components: int, *, seed: int) -> GaussianPrior:
    """Fit the distribution of pictures (N, H, W, C) and of their mirror images, by subspace iteration.

    Tipping & Bishop 1999, "Probabilistic principal component analysis". Halko, Martinsson & Tropp 2011, "Finding
    structure with randomness", algorithm 4.4.
    """
    shape = pictures.shape[1:]
    data = np.concatenate([pictures, pictures[:, :, ::-1]]).reshape(2 * len(pictures), -1)
    if not 1 <= components <= min(len(pictures), data.shape[1]):
        raise LacunarError(
            f"{components} components of {len(pictures)} pictures of {data.shape[1]} values; wanted 1 or more, and "
            "fewer than both"
        )
    mean = data.mean(axis=0, dtype=np.float64).astype(np.float32)
    data = data - mean
    rng = np.random.default_rng(seed)
    followed = min(components + OVERSAMPLED, *data.shape)
    basis = np.linalg.qr(rng.standard_normal((data.shape[1], followed)).astype(np.float32))[0]
    for _ in range(ITERATIONS):
        basis = np.linalg.qr(data.T @ (data @ basis))[0]
    _, lengths, turns = np.linalg.svd(data @ basis, full_matrices=False)
    variances = (lengths[:components] ** 2 / len(data)).astype(np.float32)
    total = float(np.square(data, dtype=np.float64).sum() / len(data))
    left = max(total - float(variances.sum()), np.finfo(np.float32).eps) / data.shape[1]
    own = np.ascontiguousarray((basis @ turns.T)[:, :components].T, dtype=np.float32)
    return GaussianPrior(mean.reshape(shape), own, variances, NOISE_FACTOR * left)
