"""Importing the classes and functions that the registry names by strings."""

from typing import Any

from humanline.files import user_code
from humanline.files.validation import ConfigError


def load(name: str) -> Any:
    """Import a class or function.

    Args:
        name: "module:name"; a module that begins with a dot is in `humanline.trainers`.

    Raises:
        ConfigError: if it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    try:
        return user_code.load(module, attribute, package="humanline.trainers")
    except ConfigError as error:
        raise ConfigError(f"objective: {error}; write module:name") from error
