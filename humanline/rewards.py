"""Reward functions for recipes, at the path that the README promised."""

from humanline.scoring.rewards import armorm

__all__ = ["armorm"]
