"""Runs of a study, resolved: their options, files, learning rates and hashes."""
