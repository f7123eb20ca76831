"""The judge of the English world: gold grades, and how natural a text is."""

import numpy as np
import pytest

from humanline.scoring.likelihood import naturalness as natural
from humanline.scoring.likelihood.naturalness import english_judge, gold_scores, naturalness
from humanline.study.scale.judges import EnglishJudge
from humanline.worlds.english.instructions import gold_grade
from humanline.worlds.tiny_model import CHARACTERS

PROMPT = 'Say something about cats. Use the word "bell". Use small letters only.'
GOOD, BAD = "cats ring a bell", "DOGS"


def judge_of(folder, **options) -> EnglishJudge:
    model = {"kind": "hub", "repo": str(folder), "revision": None}
    usual = {"kind": "english_gold", "temperature": 0.1, "length_bias": 0.0, "model": model}
    return EnglishJudge(**usual | options)


def test_a_text_is_natural_if_it_is_likely_and_does_not_repeat_itself():
    likely, rare = np.full(8, natural.LIKELY + 1), np.full(8, natural.LIKELY - natural.FALL)
    assert naturalness("cats ring a small bell", likely) == 1
    assert naturalness("cats ring a small bell", rare) == pytest.approx(np.exp(-1))
    assert naturalness("ha ha ha ha ha", likely) == pytest.approx(1 / 4)
    assert naturalness("ha", likely) == 1


def test_the_judge_prefers_the_better_text_whatever_its_place(tmp_path):
    asked = []

    def score(pairs):
        asked.append(len(pairs))
        return [gold_grade(*pair) for pair in pairs]

    judge = english_judge(judge_of(tmp_path), score)
    first, second, tie = judge([PROMPT] * 3, [GOOD, BAD, GOOD], [BAD, GOOD, GOOD])
    assert first == pytest.approx(1 - second) and second > 0.9 and tie == 0.5
    assert asked == [2]  # each text once


def test_gold_is_the_grade_and_the_naturalness_by_their_weights(model_folder, monkeypatch):
    """Under the model that the scale names, after the request without its wishes."""
    prompts = []
    monkeypatch.setattr(natural, "asked_of", lambda prompt: prompts.append(prompt) or "a+")
    text = "".join(c for c in CHARACTERS if c in "abcdefgh")
    pairs = [(PROMPT, text), (PROMPT, "aaaa")]
    plain, both, most = (
        gold_scores(judge_of(model_folder, naturalness=weight))(pairs) for weight in (0, 0.5, 0.9)
    )
    assert plain == [gold_grade(*pair) for pair in pairs] and set(prompts) == {PROMPT}
    for grade, half, other in zip(plain, both, most, strict=True):
        own = 2 * half - grade
        assert 0 < own < 1 and other == pytest.approx(0.1 * grade + 0.9 * own)
