"""humanline: the humanline trainers for TRL, and the experiments that test the paper's claims."""

from importlib import import_module

_TRAINERS = {
    name: f"humanline.trainers.{objective.lower()}"
    for objective in ("DPO", "KTO", "GRPO")
    for name in (f"Humanline{objective}Trainer", f"Humanline{objective}Config")
}

__all__ = sorted(_TRAINERS)


def __getattr__(name: str):
    """Import a trainer when it is first asked for: importing TRL takes seconds."""
    if name not in _TRAINERS:
        raise AttributeError(f"module 'humanline' has no attribute {name!r}")
    return getattr(import_module(_TRAINERS[name]), name)
