"""A rehearsed quarter of an hour on a GPU: pack at home, run there, finish at home."""
