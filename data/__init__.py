"""Slides, tissue, tiles, manifests, splits, stain, taxonomy and synthetic tissue; knows no model."""
