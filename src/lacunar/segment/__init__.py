"""Maps of water: arrays, rasters, change between dates."""

import sys

from lacunar import CallableRoom

sys.modules[__name__].__class__ = CallableRoom  # lacunar.segment(...) is lacunar.segment.api.segment
