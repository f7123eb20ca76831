"""humanline: the humanline trainers for TRL, and the experiments that test the paper's claims."""

from importlib import import_module

from humanline.trainers.registry import OBJECTIVES

# Module of each class, relative to the folder of trainers.
_MODULES = {
    name: module
    for row in OBJECTIVES.values()
    for module, name in (row.trainer.split(":"), row.config.split(":"))
}

__all__ = sorted(_MODULES)


def __getattr__(name: str):
    """Import a trainer when it is first asked for: importing TRL takes seconds."""
    if name not in _MODULES:
        raise AttributeError(f"module 'humanline' has no attribute {name!r}")
    # The folder is not written in full, or its trainers were in the hash of every command's code.
    return getattr(import_module(_MODULES[name], f"{__name__}.trainers"), name)
