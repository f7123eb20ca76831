"""A task's own grading, as scoring and rewards call it."""

from collections.abc import Callable

from humanline.files.validation import ConfigError
from humanline.study.tasks import find_task


def grader_of(name: str) -> Callable[[str, str], str]:
    """The grading of a task: the outcome of a completion with the gold answer.

    It raises a `ConfigError` for an outcome that the task does not have.
    """
    task = find_task(name)

    def grade(completion: str, answer: str) -> str:
        outcome = task.grade_completion(completion, answer)
        if outcome not in task.outcomes:
            known = ", ".join(task.outcomes)
            reason = f"grade_completion returned {outcome!r}, which is not in outcomes, {known}"
            raise ConfigError(f"task {name}: {reason}; add it there, or mend the function")
        return outcome

    return grade
