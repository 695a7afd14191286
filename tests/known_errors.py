"""LST cases and fills whose errors are known, for the tests of evaluation and scores."""

from pathlib import Path

import numpy as np

from lacunar.evaluate.job import run
from lacunar.evaluate.lst import LstTask
from lacunar.evaluate.lst_cases import LstCase
from lacunar.evaluate.task import Estimate, Lineup

SIDE = 32


def case(scene, *, col=0, rate=0.25, seed=0, side=SIDE, **more):
    """A rough tile whose first rows are hidden."""
    truth = np.random.default_rng(seed).normal(300.0, 4.0, (side, side))
    missing = np.zeros((side, side), bool)
    missing[: round(side * rate)] = True
    return LstCase(scene, 0, col, rate, truth, missing, 280.0, 320.0, **more)


def off_by(error, **parts):
    """A fill that knows the truth and errs by ``error(case)``, or by a constant; parts are made from the case too."""

    def answer(truth):
        wrong = error(truth) if callable(error) else error
        return Estimate(truth.truth + wrong, **{name: part(truth) for name, part in parts.items()})

    return answer


def claims(sigma):
    """A sigma that is the same everywhere."""
    return lambda truth: np.full(truth.truth.shape, sigma)


def found(cases, fills, *, baseline="kriging", **more):
    """What is found of fills (name -> what it answers to a case) on cases."""
    by_known = {one.truth[~one.missing].tobytes(): one for one in cases}

    def method(name):
        return lambda values, known, references, seed: {name: fills[name](by_known[values[known].tobytes()])}

    rates = tuple(dict.fromkeys(one.rate for one in cases))
    task = LstTask(rasters=Path("none"), masks="blobs", models=(), rates=rates)
    lineup = Lineup({name: method(name) for name in fills}, baseline, [next(iter(fills))], list(fills), **more)
    return task, run(task, cases, lineup)


def scored(cases, fills, *, kind="all", **options):
    """Scores of one kind of stratum, by row."""
    scores = found(cases, fills, **options)[1].scores
    return list(scores[scores["kind"] == kind].itertuples())
