"""The English world: instructions with several checkable wishes, and math in words."""
