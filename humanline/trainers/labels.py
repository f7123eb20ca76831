"""Labels of KTO: what is no label is refused by row, for TRL takes all but 0 as desirable."""

from accelerate.logging import get_logger
from datasets import Dataset

from humanline.data.formats import PAIRED, as_label
from humanline.validation import ConfigError

logger = get_logger(__name__)


def checked(dataset, name: str):
    """The dataset, its labels checked: all now, or those of a stream as they come.

    Args:
        dataset: of TRL; one of pairs has no labels.
        name: what an error calls it.

    Raises:
        ConfigError: naming the first row whose label is none.
    """
    check = _LabelCheck(f"{name} dataset")
    columns = set(next(iter(dataset), {}))
    if "label" not in columns or columns >= PAIRED:
        return dataset
    if not isinstance(dataset, Dataset):
        return dataset.map(check, with_indices=True)
    found = {check.label(value, row) for row, value in enumerate(dataset["label"])}
    if len(found) == 1:
        kind = "desirable" if found.pop() else "undesirable"
        logger.warning(f"all {len(dataset)} rows of the {name} dataset are {kind}")
    return dataset


class _LabelCheck:
    """Gives a stream's row its label as a truth value."""

    def __init__(self, place: str):
        self._place = place

    def __call__(self, row: dict, number: int) -> dict:
        return {"label": self.label(row.get("label"), number)}

    def label(self, value, number: int) -> bool:
        try:
            return as_label(value)
        except ValueError as error:
            raise ConfigError(f"{self._place}: row {number}: label: {error}") from None
