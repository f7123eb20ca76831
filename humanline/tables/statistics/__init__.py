"""Contrasts of runs by seed: their intervals, tests, power and numbers of seeds."""
