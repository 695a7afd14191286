"""How good results are: cases, methods, scores, reports."""
