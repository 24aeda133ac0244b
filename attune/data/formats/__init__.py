"""Shapes that data comes in, one small file each: `base.py` says what a format is."""
