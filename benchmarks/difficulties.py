"""Estimate the difficulties of AlpacaEval's instructions, and test the length control with them.

alpaca_eval's GLM gives every model m three weights: the judge prefers its output to instruction i
with probability logistic(theta_m + phi_m tanh(d / std(d)) + psi_m gamma_i). The repository of
alpaca_eval has the weights of many models, but not the difficulties gamma_i. The preferences and
lengths of these models give the likelihood of each gamma_i. The estimate is its maximum under the
prior N(0, tau^2), where tau^2 maximises the marginal likelihood (Laplace's approximation, by EM).

    python benchmarks/difficulties.py PREFERENCES WEIGHTS INSTRUCTIONS LEADERBOARD --write

PREFERENCES: CSV of model, instruction (0 to 804), baseline_length, model_length and preference (1
to 2) of AlpacaEval 2's judge. WEIGHTS: alpaca_eval's repository has it as
`src/alpaca_eval/metrics/weights/weighted_alpaca_eval_gpt4_turbo/length_controlled_v1/
baseline_gpt4_1106_preview.csv` (its package leaves it out). INSTRUCTIONS: any model's
annotations.json of all 805 rows in AlpacaEval's order. LEADERBOARD: CSV with win_rate and
length_controlled_winrate by model.

It prints the error of the length-controlled win rate on held-out models, in FOLDS folds: neither
the difficulties nor the prior of the weights use them. `--write` writes the estimate from all
models into the package.
"""

import argparse
import hashlib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import spearmanr

from humanline.files.json_files import read_json, write_json
from humanline.scoring.difficulties import FILE, instruction_key
from humanline.scoring.length_control import Difficulty, length_controlled_win_rate

FOLDS = 5
# Rows that are no models: the baseline, whose weights are 0 by definition, and an example.
NO_MODELS = ["gpt4_1106_preview", "example"]


def read_weights(path: Path) -> pd.DataFrame:
    """Read theta, phi and psi by model; phi is positive if longer outputs of the model win."""
    table = pd.read_csv(path, index_col=0)
    table.columns = ["phi", "psi", "theta"]
    table["phi"] *= -1
    return table[~table.index.duplicated(keep="last")].drop(NO_MODELS, errors="ignore")


class Annotations:
    """Preferences in [0, 1] and lengths in characters, (M, I): models by instructions, or nan."""

    def __init__(self, path: Path):
        table = pd.read_csv(path)
        fields = ("preference", "baseline_length", "model_length")
        wide = [table.pivot(index="model", columns="instruction", values=name) for name in fields]
        self.models = list(wide[0].index)
        self.preference, self.baseline, self.length = (frame.to_numpy() for frame in wide)
        self.preference = self.preference - 1

    def tanh_length(self) -> np.ndarray:
        difference = self.length - self.baseline
        scale = np.nanstd(difference, axis=1, ddof=1, keepdims=True)
        return np.nan_to_num(np.tanh(difference / scale))


def estimate(annotations: Annotations, weights: pd.DataFrame) -> np.ndarray:
    """Estimate the difficulties (I,) from the models in `weights`.

    Raises:
        RuntimeError: if the estimate does not converge.
    """
    rows = [i for i, model in enumerate(annotations.models) if model in weights.index]
    known = weights.loc[[annotations.models[i] for i in rows]]
    theta, phi, psi = (known[name].to_numpy()[:, None] for name in ("theta", "phi", "psi"))
    preference = annotations.preference[rows]
    judged = ~np.isnan(preference)
    preference = np.where(judged, preference, 0.5)
    offset = theta + phi * annotations.tanh_length()[rows]
    gamma, variance = np.zeros(preference.shape[1]), 1.0
    for _ in range(1000):
        probability = expit(offset + psi * gamma)
        gradient = (judged * psi * (probability - preference)).sum(axis=0) + gamma / variance
        curvature = (judged * psi**2 * probability * (1 - probability)).sum(axis=0) + 1 / variance
        step = np.clip(gradient / curvature, -1, 1)
        gamma = gamma - step
        variance = float(np.mean(gamma**2 + 1 / curvature))
        if np.abs(step).max() < 1e-9:
            return gamma
    raise RuntimeError("the difficulties did not converge")


def prior(weights: pd.DataFrame, name: str) -> tuple[float, float]:
    return float(weights[name].mean()), float(weights[name].var())


def controlled(annotations: Annotations, model: int, difficulty: Difficulty | None) -> float:
    columns = (annotations.preference, annotations.baseline, annotations.length)
    own = [column[model] for column in columns]
    judged = ~np.isnan(own[0])
    if difficulty:
        values = difficulty.values[judged]
        difficulty = Difficulty(values, difficulty.phi, difficulty.psi)
    return 100 * length_controlled_win_rate(*(c[judged] for c in own), difficulty=difficulty)


def held_out(annotations: Annotations, weights: pd.DataFrame, folds: int) -> np.ndarray:
    """Compute every model's length-controlled win rate from the models of other folds, (M,)."""
    order = np.random.default_rng(0).permutation(len(annotations.models))
    win_rates = np.empty(len(order))
    for fold in np.array_split(order, folds):
        others = weights.drop([annotations.models[i] for i in fold], errors="ignore")
        gamma = estimate(annotations, others)
        difficulty = Difficulty(gamma, prior(others, "phi"), prior(others, "psi"))
        for i in fold:
            win_rates[i] = controlled(annotations, i, difficulty)
    return win_rates


def compare(annotations: Annotations, weights: pd.DataFrame, leaderboard: Path) -> pd.DataFrame:
    """List every model's win rates in per cent: raw, published, ours without difficulties, ours."""
    published = pd.read_csv(leaderboard, index_col=0).loc[annotations.models]
    return pd.DataFrame(
        {
            "win_rate": published["win_rate"],
            "published": published["length_controlled_winrate"],
            "without": [controlled(annotations, i, None) for i in range(len(annotations.models))],
            "held_out": held_out(annotations, weights, FOLDS),
        }
    )


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Sum up the errors of win rates (points) and their rank correlations with published ones."""
    columns = ["win_rate", "without", "held_out"]
    error = table[columns].sub(table["published"], axis=0)
    rank = [spearmanr(table[name], table["published"]).statistic for name in columns]
    return pd.DataFrame(
        {"mean_error": error.abs().mean(), "largest": error.abs().max(), "spearman": rank}
    )


def content(annotations: Annotations, weights: pd.DataFrame, rows: list, paths: list[Path]) -> dict:
    """Make the content of the file that the package ships."""
    gamma = estimate(annotations, weights)
    if any(
        len(row["output_1"]) != length
        for row, length in zip(rows, np.nanmax(annotations.baseline, axis=0), strict=True)
    ):
        raise SystemExit("INSTRUCTIONS are not those of PREFERENCES in the same order")
    keys = [instruction_key(row["instruction"]) for row in rows]
    return {
        "what": "difficulty (gamma) of AlpacaEval's 805 instructions, by hash of the instruction,"
        " and mean and variance of the GLM's weights over published models",
        "made": {
            "by": "benchmarks/difficulties.py",
            "on": datetime.now(UTC).date().isoformat(),
            "sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths},
            "numpy": version("numpy"),
            "alpaca_eval": version("alpaca_eval"),
            "models": [model for model in annotations.models if model in weights.index],
            "models_of_prior": len(weights),
        },
        "phi": prior(weights, "phi"),
        "psi": prior(weights, "psi"),
        "difficulty": {key: round(float(g), 6) for key, g in zip(keys, gamma, strict=True)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("preferences", "weights", "instructions", "leaderboard"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name} of the package")
    arguments = parser.parse_args()
    annotations, weights = Annotations(arguments.preferences), read_weights(arguments.weights)
    table = compare(annotations, weights, arguments.leaderboard)
    print(table.round(1).to_markdown(), summary(table).round(3).to_markdown(), sep="\n\n")
    if arguments.write:
        paths = [arguments.preferences, arguments.weights, arguments.instructions]
        rows = read_json(arguments.instructions)
        write_json(FILE, content(annotations, weights, rows, paths))


if __name__ == "__main__":
    main()
