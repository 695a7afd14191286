"""What a quarter of an hour on a GPU is spent on: recipes, their shares, and the images a minute to expect."""

from dataclasses import dataclass

END_EARLY = 60.0  # seconds before the time is up
TIMINGS = 60.0  # seconds for the timings at the end
SHARE_OF_PEAK = 0.4  # of the device's peak, which a run is expected to reach
BACKWARD = 3  # a step of training costs so many forward passes
# Dense bfloat16 peak in FLOP/s, by a word of the device's name (NVIDIA's data sheets).
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 181e12, "A10": 125e12, "T4": 65e12}
LARGEST = 16 * 2**20  # bytes of a file that comes back
FASTER = 1.15  # compiled code is used where it is so many times as fast in the probe
# Seconds of a recipe below which compiling costs more than it gains: an H200's host took about 100 s for `face-full`,
# which then trained 1.26 times as fast as eager code in the probe.
COMPILE_FROM = 600.0
PROBE = 5.0  # seconds in which the batch size is found, after the first size, which loads the kernels
NEARLY = 0.9  # the smallest batch that is nearly as fast as the fastest is taken: more steps in the same time


@dataclass(frozen=True)
class Part:
    """One recipe of the plan: its share of the minutes, and the model that it starts from ("" for random weights)."""

    recipe: str
    share: float
    start: str = ""


# Water first and temperature last: what the others draw beforehand is drawn meanwhile, on the CPU.
PLAN = (
    Part("water-classes", 3.0),
    Part("face-full", 4.5, "face-full"),
    Part("picture-prior", 1.5),
    Part("lst-small", 1.0, "lst-small"),
)


def chosen(words: list[str]) -> tuple[Part, ...]:
    """The plan, or the parts named as RECIPE, RECIPE:SHARE or RECIPE:SHARE:START."""
    known = {part.recipe: part for part in PLAN}
    parts = []
    for word in words:
        name, share, start = (*word.split(":"), "", "")[:3]
        part = known.get(name, Part(name, 1.0))
        parts.append(Part(name, float(share or part.share), start or part.start))
    return tuple(parts) or PLAN


def peak_of(name: str) -> float | None:
    """Peak of a device in FLOP/s; None where it is not known."""
    return next((peak for word, peak in PEAKS.items() if word in name), None)


def expected_per_minute(flop_per_image: float, peak: float) -> float:
    """Images of training a minute at `SHARE_OF_PEAK`."""
    return 60.0 * SHARE_OF_PEAK * peak / (BACKWARD * flop_per_image)
