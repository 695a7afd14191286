"""Frozen recipes: exactly how each shipped model was trained."""
