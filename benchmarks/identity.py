"""Is it still the same person? A face embedding of the original beside the hidden and the reconstructed face.

    pip install --no-deps dlib-bin==20.0.1.post1 face_recognition_models==0.3.0 'setuptools<81'
    python benchmarks/identity.py FACES > docs/evidence/tables/identity.md      # a folder of aligned faces, squares

The embedding is dlib's residual network (King 2017; public domain, CC0), trained to put two pictures of one person
less than 0.6 apart; here it only measures. Its crop is that of the five points found in the original, for every
picture, so what is measured is what is in the face, not whether it is found. Every picture is hidden once at every
rate, the kinds of occlusion in turns. Beside it: how near two different persons of the set are.
"""

import argparse
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from lacunar.diffusion.samplers import PRESETS
from lacunar.evaluate.pictures import RATES, picture_cases
from lacunar.evaluate.report import markdown_table
from lacunar.geo.picture import Picture
from lacunar.interpolate.membrane import membrane_fill
from lacunar.models.backend import load_filler
from lacunar.pictures.face_fill import fill_face
from lacunar.pictures.face_frame import Face
from lacunar.pictures.fill import Drawing, paste, to_model, to_pixels

SIZE, SAMPLES = 256, 8
SAME_PERSON = 0.6  # distance of embeddings, dlib's own threshold
GREY = 128  # what hides a face
Pixels = NDArray[np.uint8]


class Embedding:
    """128 numbers of a face, by dlib."""

    def __init__(self) -> None:
        try:
            import dlib
            import face_recognition_models
        except ImportError as error:
            raise SystemExit(f"{error}: the docstring of this file says what to install") from error
        self._dlib: Any = dlib
        self._points = dlib.shape_predictor(face_recognition_models.pose_predictor_five_point_model_location())
        self._network = dlib.face_recognition_model_v1(face_recognition_models.face_recognition_model_location())
        self._detector = dlib.get_frontal_face_detector()

    def points(self, picture: Pixels) -> Any:  # noqa: ANN401
        """The five points of the face; of several finds the largest; None where there is none."""
        finds = self._detector(picture, 1)
        return self._points(picture, max(finds, key=lambda one: one.area())) if finds else None

    def of(self, picture: Pixels, points: Any) -> NDArray[np.float64]:  # noqa: ANN401
        """The embedding."""
        return np.array(self._network.compute_face_descriptor(np.ascontiguousarray(picture), points))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--pictures", type=int, help="at most")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    embedding, model, rows, originals = Embedding(), load_filler("face-full"), [], {}
    for case in picture_cases(asked.faces, size=SIZE, rates=RATES, most=asked.pictures):
        points = embedding.points(case.truth)
        if points is None:
            continue
        original = originals.setdefault(case.picture, embedding.of(case.truth, points))
        for method, shown in pictures_of(case.truth, case.missing, model).items():
            own = embedding.of(shown, points)
            rows.append({"rate": case.rate, "method": method, **likeness(own, original)})
        print(f"{case.name} {case.hidden_by}", file=sys.stderr, flush=True)
    table = pd.DataFrame(rows).groupby(["rate", "method"], sort=False).mean()
    cells = [(f"{rate:.0%}", method, *texts(scores)) for (rate, method), scores in table.iterrows()]
    others = pd.DataFrame([likeness(*pair) for pair in combinations(originals.values(), 2)]).mean()
    cells.append(("", "another person of the set", *texts(others)))
    same = f"taken for the same person (below {SAME_PERSON})"
    titles = ("hidden", "picture", "cosine to the original", "distance", same)
    print(markdown_table(titles, cells))
    print(f"\n{len(originals)} faces of {SIZE} x {SIZE} pixels.")


def pictures_of(truth: Pixels, missing: NDArray[np.bool_], model: Any) -> dict[str, Pixels]:  # noqa: ANN401
    """What is shown in place of the original."""
    hidden = np.where(missing[..., None], np.uint8(GREY), truth)
    smooth = to_pixels(membrane_fill(to_model(truth, 255), missing), truth)
    picture, drawing = Picture(truth), Drawing(PRESETS["fast"], SAMPLES)
    regions = fill_face(picture, missing, Face.whole(missing.shape), model, None, drawing)
    return {
        "hidden": hidden,
        "membrane": np.where(missing[..., None], smooth, truth),
        f"`lacunar face`, mean of {SAMPLES}": paste(picture, regions).colours,
        "`lacunar face`, one sample": paste(picture, regions, sample=0).colours,
    }


def likeness(one: NDArray[np.float64], other: NDArray[np.float64]) -> dict[str, float]:
    """How near two embeddings are."""
    distance = float(np.linalg.norm(one - other))
    cosine = float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    return {"cosine": cosine, "distance": distance, "same": float(distance < SAME_PERSON)}


def texts(scores: Any) -> tuple[str, str, str]:  # noqa: ANN401
    """Cells of the table."""
    return f"{scores['cosine']:.3f}", f"{scores['distance']:.3f}", f"{scores['same']:.0%}"


if __name__ == "__main__":
    main()
