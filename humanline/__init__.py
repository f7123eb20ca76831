"""humanline: the humanline trainers for TRL, and the experiments that test the paper's claims."""

from importlib import import_module


def __getattr__(name: str):
    """Import a trainer at its first use: importing TRL takes seconds.

    Every command imports this package first, also one that a warm worker runs. So the registry,
    which needs pydantic, is imported only here.
    """
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    from humanline.trainers.registry import OBJECTIVES

    # The module of each class, relative to the folder trainers/.
    modules = {
        name: module
        for row in OBJECTIVES.values()
        for module, name in (row.trainer.split(":"), row.config.split(":"))
    }
    if name == "__all__":
        return sorted(modules)
    if name not in modules:
        raise AttributeError(f"module 'humanline' has no attribute {name!r}")
    # Not "humanline.trainers" in full: that string would put all trainers into every code hash.
    return getattr(import_module(modules[name], f"{__name__}.trainers"), name)
