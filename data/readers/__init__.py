"""Readers of slide files: one file each, named in the registry."""
