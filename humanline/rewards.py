"""Reward functions for recipes: those of `humanline.scoring.rewards`, at a shorter path."""

from humanline.scoring.rewards import armorm

__all__ = ["armorm"]
