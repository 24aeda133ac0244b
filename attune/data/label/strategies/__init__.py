"""Ways to choose which text is labelled next, one small file each: `base.py` says what one is."""
