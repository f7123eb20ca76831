"""PyYAML's loaders, made strict: plain numbers, keys that are given once, no bombs."""

import re

import yaml

MOST_VALUES = 200_000  # of a file, with those that aliases repeat


class _Plain:
    """A mixin of loaders, which refuse or read as text what YAML 1.1 reads as something else.

    PyYAML takes the last of keys that are given twice, reads 010 as 8 and 1:30 as 90, and 1e-3 as
    text. Here a number is a decimal one, as in YAML 1.2, and a key is given once.
    """

    yaml_implicit_resolvers: dict

    def __init__(self, text: str):
        super().__init__(text)  # type: ignore[call-arg]  # the loader's
        self._flat: set[int] = set()

    def flatten_mapping(self, node):
        # Every mapping comes here before its merge keys are replaced, and maybe again afterwards.
        if id(node) in self._flat:
            return
        self._flat.add(id(node))
        seen = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key.value, str) else id(key)
            if name in seen:
                raise _fault_at(key, f"the key {key.value!r} is given twice")
            seen.add(name)
        super().flatten_mapping(node)  # type: ignore[misc]  # the loader's
        if len(node.value) > MOST_VALUES:
            raise _fault_at(node, "its merge keys have too many values")

    def construct_mapping(self, node, deep=False):
        if not isinstance(node, yaml.MappingNode):  # !!map before something else
            raise _fault_at(node, "this is no mapping")
        return super().construct_mapping(node, deep)  # type: ignore[misc]  # the loader's

    def construct_object(self, node, deep=False):
        try:
            return super().construct_object(node, deep)  # type: ignore[misc]  # the loader's
        except (AttributeError, KeyError, TypeError):  # a tag that does not fit, as !!bool 7
            tag = node.tag.removeprefix("tag:yaml.org,2002:")
            raise _fault_at(node, f"this is no {tag}") from None


def _fault_at(node: yaml.Node, problem: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)$")
_FLOAT = re.compile(
    r"[-+]?(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][-+]?[0-9]+)?$|[-+]?(?:0|[1-9][0-9]*)\.?[eE][-+]?[0-9]+$"
    r"|[-+]?(?:0|[1-9][0-9]*)\.$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
)


def _with_plain_numbers(loader: type) -> type:
    """Let a loader read decimal numbers alone as numbers."""
    numbers = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
    loader.yaml_implicit_resolvers = {  # type: ignore[attr-defined]  # the loader's
        first: [(tag, regexp) for tag, regexp in resolvers if tag not in numbers]
        for first, resolvers in loader.yaml_implicit_resolvers.items()  # type: ignore[attr-defined]
    }
    for tag, regexp, first in (("int", _INT, "-+0123456789"), ("float", _FLOAT, "-+0123456789.")):
        loader.add_implicit_resolver(  # type: ignore[attr-defined]
            f"tag:yaml.org,2002:{tag}", regexp, list(first)
        )
    return loader


@_with_plain_numbers
class _Loader(_Plain, yaml.SafeLoader):
    """PyYAML's loader in Python; it says exactly where a fault is."""


# Every job reads the whole configuration. PyYAML's loader in C is eight times as fast.
@_with_plain_numbers
class _FastLoader(_Plain, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's loader in C, where it is installed."""


def parse(text: str):
    """Parse YAML.

    Raises:
        ValueError, RecursionError, yaml.YAMLError: if it is wrong, or beyond the bounds.
    """
    # A value ends with one of these. Few texts have so many, and it takes long to parse them.
    if text.count(",") + text.count("\n") > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values")
    try:
        return yaml.load(text, _FastLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return yaml.load(text, _Loader)  # for its error
