"""Kinds of values that the scale and the experiments share: names of tasks and objectives, seeds.

Snakefiles import this module, so it is cheap.
"""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from humanline.files.validation import fault, pick

Task = Literal["instruction_following", "math_reasoning"]
Objective = Literal["dpo", "kto", "grpo"]
Stage = Literal["data", "base_model", "offline", "train", "generate", "score", "table"]
PositiveInt = Annotated[int, Field(gt=0)]
TASKS: tuple[str, ...] = get_args(Task)
OBJECTIVES: tuple[str, ...] = get_args(Objective)


def how_scored(task: str) -> Literal["judge", "grade"]:
    """Whether a task's completions are judged against references, or graded by their answers.

    Raises:
        ConfigError: if the task is not known here.
    """
    return pick("task", task, {"instruction_following": "judge", "math_reasoning": "grade"})


def _distinct(values: list) -> list:
    if twice := [value for index, value in enumerate(values) if value in values[:index]]:
        raise fault("", f"{twice[0]} is listed twice; remove one")
    return values


SeedList = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1), AfterValidator(_distinct)
]
RateList = Annotated[
    list[Annotated[float, Field(gt=0)]], Field(min_length=1), AfterValidator(_distinct)
]
