"""AlpacaEval through alpaca_eval's own machinery, with a judge that is a Python function.

alpaca_eval pairs outputs, swaps positions, collects and sums up; the judge only compares two
outputs. alpaca_eval has hidden state, which this module sets or undoes: the version of the
protocol, the annotation cache, the folder of GLM weights, its download, the log level and
scikit-learn's settings.
"""

import io
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from numbers import Real
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from humanline.files import user_code
from humanline.files.validation import ConfigError

Rows = Iterable[dict]
# Maps (instruction, output_1, output_2) to the probability that output_2 is preferred.
Judge = Callable[[str, str, str], float]
# Does the same for lists of equal length.
BatchJudge = Callable[[list[str], list[str], list[str]], list[float]]

FIELDS = ("instruction", "output", "generator", "dataset")
CONFIGURATIONS = Path(__file__).parent / "judges"
_Side = tuple[str, dict[str, str]]  # a generator's name, and its outputs by instruction
_PAIR = ["instruction", "output_1", "output_2"]
_CHUNK = 256  # pairs that a judge of batches is given at once
_MANY = 4096  # pairs at once for a judge that takes them one by one: a table has a fixed cost
_AT_ONCE = 2**15  # pairs that alpaca_eval holds at once, 4 KiB each


def sigmoid_judge(
    score: Callable[[str, str], float], *, temperature: float, length_bias: float
) -> Judge:
    """Build a judge that sees scores with noise and can favour longer outputs.

    It prefers y2 to y1 with probability

        sigmoid((score(x, y2) - score(x, y1) + length_bias * longer) / temperature),

    where longer = (|y2| - |y1|) / (|y1| + |y2|) in [-1, 1] compares their lengths in characters.
    It favours no position: swapping the outputs gives one minus the probability.

    Args:
        score: scores an output; takes (instruction, output).
        temperature: difference in score that gives odds of e.
        length_bias: score added for a much longer output; 0 ignores length.

    Raises:
        ValueError: if the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive; got {temperature}")

    def judge(instruction: str, output_1: str, output_2: str) -> float:
        better = score(instruction, output_2) - score(instruction, output_1)
        longer = (len(output_2) - len(output_1)) / max(1, len(output_1) + len(output_2))
        return float(expit((better + length_bias * longer) / temperature))

    return judge


def function_judge(path: str) -> BatchJudge:
    """Make a judge of a user's function.

    The function takes lists of equal length: instructions, first outputs and second outputs, all
    texts. It returns for each pair the probability, from 0 to 1, that the second output is better;
    0.5 is a tie. The model's place is drawn for each pair, so a preference for a place cancels out.

    Args:
        path: the function's dotted path.

    Raises:
        ConfigError: if the function cannot be imported or does not take three lists. The judge
            raises it if the function fails or does not return one probability per pair.
    """
    function = user_code.UserFunction("judge", path, "instructions and two lists of outputs")
    function.require([], [], [])

    def compare(instructions, first, second):
        found = function(instructions, first, second)
        if len(found) != len(instructions):
            given = f"{len(found)} probabilities for {len(instructions)} pairs"
            raise ConfigError(f"judge {path}: {given}; return one for each")
        for instruction, value in zip(instructions, found, strict=True):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not 0 <= value <= 1:
                raise ConfigError(
                    f"judge {path}: {value!r} for instruction {_short(instruction)}; return the "
                    "probability, from 0 to 1, that the second output is better"
                )
        return found

    return compare


def annotate(
    outputs: Rows, baseline: Rows, judge: Judge, *, work_dir: Path, seed: int = 0
) -> pd.DataFrame:
    """Compare a model's outputs with the baseline's, instruction by instruction.

    Identical outputs are a tie. The judge sees every other pair once, in a random order.

    Args:
        outputs: the model's rows in AlpacaEval's format: `FIELDS`, all strings, one generator.
        baseline: the baseline's rows, with the same instructions in any order.
        judge: returns the probability that its second output is preferred.
        work_dir: folder for alpaca_eval's configuration and the files that alpaca_eval writes.
        seed: seed of the order in which the judge sees the two outputs.

    Returns:
        One row per instruction in the order of the baseline: instruction, output_1, generator_1
        (the baseline's), output_2, generator_2 (the model's), annotator, and preference from 1
        (the baseline's is better) to 2 (the model's is better).

    Raises:
        ValueError: if a field is missing or no string, an instruction occurs twice or on one side
            only, generators are mixed, or the judge returns no probability.
    """

    def compare(*texts: list[str]) -> list[float]:
        return [_ask(judge, *pair) for pair in zip(*texts, strict=True)]

    return annotate_in_batches(
        outputs, baseline, compare, work_dir=work_dir, seed=seed, batch_size=_MANY
    )


def annotate_in_batches(
    outputs: Rows,
    baseline: Rows,
    compare: BatchJudge,
    *,
    work_dir: Path,
    seed: int = 0,
    batch_size: int = _CHUNK,
) -> pd.DataFrame:
    """Compare outputs with a judge that takes up to `batch_size` pairs at once; see `annotate`."""

    def complete(prompts: list[str]) -> dict[str, list[float]]:
        texts = zip(*map(json.loads, prompts), strict=True)
        return {"completions": list(compare(*map(list, texts)))}

    return annotate_as_configured(
        "local",
        outputs,
        baseline,
        encode=_encode,
        work_dir=work_dir,
        seed=seed,
        batch_size=batch_size,
        fn_completions=complete,
        fn_completion_parser=lambda probability: [1 + probability],
    )


def annotate_as_configured(
    configuration: str,
    outputs: Rows,
    baseline: Rows,
    *,
    encode: Callable[[str], str],
    work_dir: Path,
    seed: int = 0,
    batch_size: int = _CHUNK,
    **functions: Callable,
) -> pd.DataFrame:
    """Compare outputs with one of the annotators in `judges`; see `annotate`.

    Args:
        configuration: name of the annotator's folder in `judges`.
        encode: protects a text from alpaca_eval's template, which also replaces an {output_1} that
            stands in an instruction.
        batch_size: most pairs in one call of `fn_completions`.
        functions: alpaca_eval's `fn_completions` and `fn_completion_parser`, where the
            configuration file does not set them.
    """
    with _columns_of_objects():
        pairs = _pair(_side(baseline, "baseline"), _side(outputs, "outputs"))
        annotator = _annotator(configuration, work_dir, seed, functions)
        names: list[str] = []
        preferences = np.empty(len(pairs))
        for start in range(0, len(pairs), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            rows = _annotate(pairs[_PAIR][part], annotator, encode, batch_size)
            names += [row["annotator"] for row in rows]
            # None if the judge has no verdict
            preferences[part] = np.array([row["preference"] for row in rows], dtype=float)
        return pairs.assign(annotator=names, preference=preferences)


@contextmanager
def _columns_of_objects() -> Iterator[None]:
    """Let pandas keep texts as objects: alpaca_eval reads row by row, which is twice as fast."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The 'future.infer_string' option")
        with pd.option_context("future.infer_string", False):
            yield


def _annotate(
    pairs: pd.DataFrame, annotator, encode: Callable[[str], str], batch_size: int
) -> list[dict]:
    """Let alpaca_eval annotate pairs; return its rows in the order of the pairs."""
    encoded = pairs.map(encode)
    annotated = {
        row["instruction"]: row for row in annotator.annotate_pairs(encoded, chunksize=batch_size)
    }
    return [annotated[instruction] for instruction in encoded["instruction"]]


def summarize(annotations: pd.DataFrame) -> dict[str, float]:
    """Sum up annotations with alpaca_eval's own figures.

    Args:
        annotations: columns instruction, output_1, output_2, generator_1, generator_2 and
            preference, as `annotate` returns or AlpacaEval publishes them; at least 5 rows with a
            preference. Rows without one are left out.

    Returns:
        win_rate, standard_error, discrete_win_rate, length_controlled_winrate and
        lc_standard_error in per cent; the counts n_wins, n_wins_base, n_draws and n_total; and
        avg_length, the mean length of output_2 in whole characters.

        The GLM is `length_controlled_minimal`. It predicts the same for every instruction, so its
        lc_standard_error is always 0: take the uncertainty from a bootstrap. If differences in
        length do not vary, the length-controlled win rate is the win rate. If every preference is
        exactly 1, alpaca_eval's fit fails and gives 50, with a warning.
    """
    alpaca_eval = load_alpaca_eval()
    rows = annotations[[*_PAIR[1:], "generator_1", "generator_2", "preference"]]
    judged = rows["preference"].notna()
    rows = rows[judged].reset_index(drop=True)
    length = rows["output_2"].str.len()
    if (length - rows["output_1"].str.len()).nunique() > 1:
        figures = _length_controlled(alpaca_eval, rows)
    else:  # alpaca_eval would divide by their standard deviation
        figures = alpaca_eval.metrics.get_winrate(rows)
        figures |= {"length_controlled_winrate": figures["win_rate"], "lc_standard_error": 0.0}
    figures["avg_length"] = int(length.mean())
    # JSON cannot hold NumPy's numbers.
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in figures.items()
    }


def _side(rows: Rows, name: str) -> _Side:
    """Check a side's rows; return the name of its generator, and its outputs by instruction."""
    indexed, generators = {}, set()
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"{name}: row {number}: not an object; give it the fields {FIELDS}")
        for field in FIELDS:
            if not isinstance(row.get(field), str):
                raise ValueError(f"{name}: row {number}: field {field}: not a string; write one")
        if row["instruction"] in indexed:
            reason = f"field instruction: {_short(row['instruction'])} again"
            raise ValueError(f"{name}: row {number}: {reason}; keep one output for it")
        indexed[row["instruction"]] = row["output"]
        generators.add(row["generator"])
    if not indexed:
        raise ValueError(f"{name}: no rows; generate outputs first")
    if len(found := sorted(generators)) > 1:
        raise ValueError(
            f"{name}: field generator: {found[0]!r} and {found[1]!r}; judge one generator at a time"
        )
    return found[0], indexed


def _pair(first: _Side, second: _Side) -> pd.DataFrame:
    """Pair the outputs of the baseline and of the model, in the order of the baseline."""
    (baseline_name, baseline), (name, outputs) = first, second
    for instruction in baseline:
        if instruction not in outputs:
            reason = f"field instruction: {_short(instruction)} is missing"
            raise ValueError(f"outputs: {reason}; generate that output")
    for instruction in outputs:
        if instruction not in baseline:
            reason = f"field instruction: {_short(instruction)} is missing"
            raise ValueError(f"baseline: {reason}; remove it from the outputs")
    # For alpaca_eval equal names are one model, whose length-controlled win rate is 50.
    if baseline_name == name:
        raise ValueError(
            f"outputs: field generator: {name!r} is the baseline's name as well; rename one"
        )
    return pd.DataFrame(
        {
            "instruction": list(baseline),
            "output_1": list(baseline.values()),
            "generator_1": baseline_name,
            "output_2": [outputs[instruction] for instruction in baseline],
            "generator_2": name,
        }
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def _encode(text: str) -> str:
    """Encode a text as JSON without braces; `annotate_in_batches` decodes it for the judge."""
    return json.dumps(text).replace("{", "\\u007b")


def _annotator(configuration: str, work_dir: Path, seed: int, functions: dict[str, Callable]):
    """Build alpaca_eval's annotator from one of our configurations."""
    # A copy, because alpaca_eval writes its files beside its configuration.
    folder = shutil.copytree(
        CONFIGURATIONS / configuration,
        work_dir / configuration,
        copy_function=shutil.copyfile,  # contents only: the package may be read-only
        dirs_exist_ok=True,
    )

    class Annotator(load_alpaca_eval().annotators.PairwiseAnnotator):  # type: ignore[misc]
        # alpaca_eval joins the texts of a list of columns for the seed of a pair's random choices.
        # pandas looks up a list slowly, row by row. The column itself gives the same text.
        random_seed_keys = "instruction"

        def _store_annotations_(self, df_annotated):
            """Keep nothing: alpaca_eval would copy all earlier pairs after each batch."""

    annotator = Annotator(
        annotators_config=folder.resolve() / "configs.yaml",
        seed=seed,
        caching_path=None,  # a cache would keep the answers of a judge that has changed since
        is_avoid_reannotations=False,
        **functions,
    )
    for single in annotator.annotators.values():
        for processor in single.processors:  # the one that draws the order of the two outputs
            if getattr(processor, "random_seed_columns", None) == ["instruction"]:
                processor.random_seed_columns = Annotator.random_seed_keys
    return annotator


def _ask(judge: Judge, instruction: str, output_1: str, output_2: str) -> float:
    probability = judge(instruction, output_1, output_2)
    if not isinstance(probability, Real) or not 0 <= probability <= 1:
        reason = f"{probability!r} for instruction {_short(instruction)}"
        raise ValueError(f"judge: {reason}; return a probability in [0, 1]")
    return probability


def load_alpaca_eval():
    """Import alpaca_eval late, without its side effects on the process, and return it."""
    os.environ["IS_ALPACA_EVAL_2"] = "True"  # read on import; any other value means version 1
    root = logging.getLogger()
    level = root.level
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
        import alpaca_eval
        import alpaca_eval.metrics.glm_winrate
    root.setLevel(level)  # alpaca_eval sets it to INFO
    return alpaca_eval


def _length_controlled(alpaca_eval, rows: pd.DataFrame) -> dict:
    """Compute alpaca_eval's figures with its GLM; it reads nothing from the hub, writes nothing."""
    import sklearn

    glm = alpaca_eval.metrics.glm_winrate
    # The fit turns on scikit-learn's metadata routing and uses features that 1.10 will remove.
    with sklearn.config_context(), warnings.catch_warnings(), _offline(glm, len(rows)):
        warnings.filterwarnings("ignore", category=FutureWarning, module="sklearn")
        return glm.get_length_controlled_winrate(
            rows,
            glm_name="length_controlled_minimal",
            save_weights_dir=None,
            is_add_glm_preference_inplace=False,
        )


@contextmanager
def _offline(glm, n_rows: int) -> Iterator[None]:
    """Give alpaca_eval zeros instead of the file that it downloads on every fit.

    From that file, df_gamed.csv, it takes only the difficulties of AlpacaEval's 805 instructions.
    The minimal GLM then ignores them. Zeros work for any instructions and without a network.
    """
    difficulty = pd.DataFrame({"index": range(n_rows), "instruction_difficulty": 0.0, "model": ""})
    download = glm.hf_hub_download
    glm.hf_hub_download = lambda **_: io.StringIO(difficulty.to_csv(index=False))
    try:
        yield
    finally:
        glm.hf_hub_download = download
