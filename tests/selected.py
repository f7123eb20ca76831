"""What the tests that are to run ask of a fixture that makes many things: it makes no others."""

import pytest


def selected(request: pytest.FixtureRequest, *functions: str) -> list[dict]:
    """The parameters of the tests of a module that are to run.

    Args:
        functions: names of the module's test functions.
    """
    return [
        item.callspec.params
        for item in request.session.items
        if item.path == request.path and getattr(item, "originalname", None) in functions
    ]
