"""Snakemake's lines without the names of hundreds of files."""

import logging

WIDTH = 300  # characters of a line


def shortened(text: str) -> str:
    """Cut lines that are too long, after a whole name of a list, and say how many are left out."""
    return "\n".join(map(_line, text.split("\n")))


def _line(line: str) -> str:
    if len(line) <= WIDTH:
        return line
    kept = line[:WIDTH].rpartition(", ")[0]
    if not kept:
        return f"{line[:WIDTH]}… ({len(line) - WIDTH:,} more characters)"
    return f"{kept}, and {line[len(kept) + 2 :].count(', ') + 1} more"


class Short(logging.Formatter):
    """A formatter that shortens what another one writes.

    Args:
        whole: the other formatter.
    """

    def __init__(self, whole: logging.Formatter):
        super().__init__()
        self._whole = whole

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, in short lines."""
        return shortened(self._whole.format(record))


def shorten() -> None:
    """Shorten the lines that Snakemake prints in this process; its log has all."""
    from snakemake.logging import logger

    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler" and handler.formatter:
            handler.setFormatter(Short(handler.formatter))
