"""Temperature and other single-band rasters: arrays and files without gaps."""

import sys

from lacunar import CallableRoom

sys.modules[__name__].__class__ = CallableRoom  # lacunar.fill(...) is lacunar.fill.api.fill
