"""Checks of a study as a whole: keys without effect, names, and how many runs it stands for."""
