"""Cases and fillers whose errors are known, for the tests of evaluation and scores."""

import numpy as np

from lacunar.evaluate.cases import Case
from lacunar.evaluate.measure import Fill
from lacunar.evaluate.methods import evaluate
from lacunar.evaluate.scores import pool

SIDE = 32


def case(scene, *, col=0, rate=0.25, seed=0, side=SIDE, **more):
    """A rough tile whose first rows are hidden."""
    values = np.random.default_rng(seed).normal(300.0, 4.0, (side, side))
    gap = np.zeros((side, side), bool)
    gap[: round(side * rate)] = True
    return Case(scene, 0, col, rate, values, gap, 280.0, 320.0, **more)


def off_by(truths, error, **parts):
    """A filler that knows the truth and errs by ``error(case)``."""
    by_known = {truth.values[~truth.gap].tobytes(): truth for truth in truths}

    def filler(values, known, seed, references=()):
        truth = by_known[values[known].tobytes()]
        made = {name: part(truth) for name, part in parts.items()}
        return Fill(truth.values + error(truth), **made)

    return filler


def constant(size):
    """An error that is the same everywhere."""
    return lambda _: size


def scored(cases, fillers, *, baseline="kriging", kinds=("all",), **options):
    """Scores of fillers on cases."""
    return pool(evaluate(cases, fillers, **options), baseline=baseline, kinds=kinds)
