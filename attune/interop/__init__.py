"""Recipes of other tools, read as text and never run, turned into ours with an account of every key."""
