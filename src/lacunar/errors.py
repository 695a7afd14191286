"""The errors that lacunar raises on bad input; each message says what was got, what was wanted and what to do."""


class LacunarError(ValueError):
    """Bad input or use: the command line turns it into one line and exit code 2."""


class ProductError(LacunarError):
    """A Landsat product that cannot be used as delivered."""


class RasterError(LacunarError):
    """A raster that cannot be read, written or matched to another."""


class ModelError(LacunarError):
    """A model folder, checkpoint or network that does not fit."""


class TrainingError(LacunarError):
    """A training run that cannot start or go on."""


class PictureError(LacunarError):
    """A picture or a mask that cannot be read, kept or matched to another."""


def one_line(error: BaseException) -> str:
    """What an error of another library says, or its cause where it has one, for the end of a message of ours."""
    return " ".join(str(error.__cause__ or error).split())[:160]


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)
