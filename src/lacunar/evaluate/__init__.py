"""How good results are: cases, methods, scores, reports."""

import sys

from lacunar import CallableRoom

sys.modules[__name__].__class__ = CallableRoom  # lacunar.evaluate(...) is lacunar.evaluate.job.evaluate
