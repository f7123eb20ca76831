"""humanline: the humanline trainers for TRL, and the experiments that test the paper's claims."""

from importlib import import_module

from humanline.trainers.registry import OBJECTIVES

# The module of each class, relative to the folder trainers/.
_MODULES = {
    name: module
    for row in OBJECTIVES.values()
    for module, name in (row.trainer.split(":"), row.config.split(":"))
}

__all__ = sorted(_MODULES)


def __getattr__(name: str):
    """Import a trainer at its first use: importing TRL takes seconds."""
    if name not in _MODULES:
        raise AttributeError(f"module 'humanline' has no attribute {name!r}")
    # Not "humanline.trainers" in full: that string would put all trainers into every code hash.
    return getattr(import_module(_MODULES[name], f"{__name__}.trainers"), name)
