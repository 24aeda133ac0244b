"""Written tasks, one small file each: `base.py` says what a template is."""
