"""Model folders, weights, cards and backends; denoising of whole arrays in tiles."""
