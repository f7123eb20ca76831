import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForSequenceClassification

from humanline.files.validation import ConfigError
from humanline.scoring import rewards
from humanline.scoring.rewards import load_reward
from humanline.study.scale.rewards import HubReward, ProxyReward, VerifiableReward
from humanline.trainers.rows.preferences import assistant_turn, user_turn
from humanline.worlds.letters import proxy_reward
from humanline.worlds.tiny_model import build_tokenizer

PROMPTS = ["a+ ~ L", "b- * S", "a+ ~ L", "1+2"]
COMPLETIONS = ["abababababab", "ccc", "a", "\\boxed{3}"]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A tiny sequence classifier in Hugging Face format, in a folder."""
    folder = tmp_path_factory.mktemp("reward")
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        num_labels=1,
        initializer_range=0.5,
    )
    LlamaForSequenceClassification(config).to(torch.bfloat16).save_pretrained(folder)
    assert (folder / "model.safetensors").exists()
    return folder


def hub_reward(folder):
    return load_reward(HubReward(kind="hub", repo=str(folder), revision=None))


def test_proxy_scores_each_row_with_its_own_prompt():
    score = load_reward(ProxyReward(kind="proxy"))
    scores = score(PROMPTS[:3], COMPLETIONS[:3], [None] * 3)
    assert scores == [proxy_reward(p, c) for p, c in zip(PROMPTS[:3], COMPLETIONS[:3], strict=True)]
    assert len(set(scores)) == 3


def test_verifiable_scores_are_one_for_right_and_zero_for_wrong():
    score = load_reward(VerifiableReward(kind="math_verify"))
    completions = ["3,8,\\boxed{7}", "\\boxed{8}", "7", "\\boxed{\\frac{2}{4}}"]
    scores = score(["1+2+5-1"] * 4, completions, ["7", "7", "7", "0.5"])
    assert scores == [1.0, 0.0, 0.0, 1.0]
    assert all(type(s) is float for s in scores)


@pytest.mark.parametrize(
    "config", [ProxyReward(kind="proxy"), VerifiableReward(kind="math_verify")]
)
def test_lists_of_unequal_length_are_refused(config):
    with pytest.raises(ValueError, match="zip"):
        load_reward(config)(["a+"], ["a", "b"], [None])


def test_hub_scores_are_the_classifiers_own_logits(classifier):
    model = LlamaForSequenceClassification.from_pretrained(classifier, dtype=torch.bfloat16).eval()
    tokenizer = build_tokenizer()
    expected = []
    for prompt, completion in zip(PROMPTS, COMPLETIONS, strict=True):
        text = tokenizer.apply_chat_template(
            user_turn(prompt) + assistant_turn(completion), tokenize=False
        )
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            expected.append(model.to("cpu")(ids).logits[0, 0].item())
    scores = hub_reward(classifier)(PROMPTS, COMPLETIONS, [None] * 4)
    assert all(type(s) is float for s in scores)
    assert scores == pytest.approx(expected, rel=0.02, abs=0.02)
    assert max(expected) - min(expected) > 0.2


def test_hub_scores_do_not_depend_on_the_other_rows(classifier):
    score = hub_reward(classifier)
    together = score(PROMPTS, COMPLETIONS, [None] * 4)
    alone = [score([p], [c], [None])[0] for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    assert together == alone


def test_hub_reward_prefers_an_output_called_score(classifier, monkeypatch):
    """ArmoRM's own output class: `score` is the reward, `logits` are not."""
    from types import SimpleNamespace

    def forward(self, *args, **kwargs):
        return SimpleNamespace(score=torch.tensor([0.25]), logits=torch.tensor([[9.0, 9.0]]))

    score = hub_reward(classifier)
    monkeypatch.setattr(LlamaForSequenceClassification, "forward", forward)
    assert score(PROMPTS[:1], COMPLETIONS[:1], [None]) == [0.25]


def test_armorm_takes_trls_conversations(classifier, monkeypatch):
    monkeypatch.setattr(rewards, "_armorm", lambda: hub_reward(classifier))
    prompts = [user_turn(prompt) for prompt in PROMPTS]
    completions = [assistant_turn(completion) for completion in COMPLETIONS]
    expected = hub_reward(classifier)(PROMPTS, COMPLETIONS, [None] * 4)
    assert rewards.armorm(prompts=prompts, completions=completions, trainer=None) == expected


def test_hub_scores_need_no_gradient(classifier):
    with torch.enable_grad():
        hub_reward(classifier)(PROMPTS[:1], COMPLETIONS[:1], [None])


@pytest.mark.parametrize("repo", ["humanline-tests/there-is-no-such-model", "nosuchfolder"])
@pytest.mark.parametrize("revision", [None, "a1" * 20])
def test_a_missing_repository_is_one_line_that_names_it(repo, revision):
    with pytest.raises(ConfigError) as caught:
        load_reward(HubReward(kind="hub", repo=repo, revision=revision))
    assert len(str(caught.value).splitlines()) == 1
    assert repo in str(caught.value)


@pytest.mark.parametrize("broken", ["", "{}", "not json"])
def test_a_folder_without_a_model_is_one_line_that_names_it(tmp_path, broken):
    if broken:
        (tmp_path / "config.json").write_text(broken)
    with pytest.raises(ConfigError) as caught:
        hub_reward(tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(tmp_path) in str(caught.value)


def test_a_math_reward_says_what_share_had_no_box_and_ran_out_of_time(capsys):
    """TRL's log has the shares, too."""
    from humanline.training.cell import _reward_function

    logged = {}
    reward = _reward_function(load_reward(VerifiableReward(kind="math_verify")))
    texts = ["\\boxed{3}", "\\boxed{4}", "3", "\\boxed{(10^{10^{10}})!}"]
    scores = reward(
        [user_turn("1+2")] * 4,
        [assistant_turn(text) for text in texts],
        ["3"] * 4,
        log_metric=logged.__setitem__,
        log_extra=None,
    )
    assert scores == [1.0, 0.0, 0.0, 0.0]
    assert logged == {"grading/no_box": 0.25, "grading/timed_out": 0.25}
    assert "1 of 4 answers ran into its limit" in capsys.readouterr().out


WRONG_SCORES = [[1.0, float("nan")], [1.0, float("inf")], [1.0, None], [1.0, "2"], [True, 1.0]]


@pytest.mark.parametrize("scores", WRONG_SCORES)
def test_a_score_that_is_no_finite_number_names_its_prompt(scores, monkeypatch):
    monkeypatch.setattr(rewards, "_score_of", lambda config: lambda *_: scores)
    score = load_reward(ProxyReward(kind="proxy"))
    with pytest.raises(ConfigError, match=r"^reward proxy: .* of prompt '(a\+ ~ L|b- \* S)'; "):
        score(PROMPTS[:2], COMPLETIONS[:2], [None] * 2)


@pytest.mark.parametrize("scores", [[], [1.0], [1.0] * 3])
def test_a_score_is_asked_for_each_completion(scores, monkeypatch):
    monkeypatch.setattr(rewards, "_score_of", lambda config: lambda *_: scores)
    with pytest.raises(ConfigError, match=f"reward proxy: {len(scores)} scores for 2 completions"):
        load_reward(ProxyReward(kind="proxy"))(PROMPTS[:2], COMPLETIONS[:2], [None] * 2)


def test_a_classifier_of_weights_that_are_not_finite_is_refused(classifier, tmp_path):
    folder = shutil.copytree(classifier, tmp_path / "nan")
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"].fill_(torch.nan)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"score\.weight has values that are not finite"):
        hub_reward(folder)


def test_a_classifier_of_several_labels_is_refused(classifier, monkeypatch):
    """Nothing says which of the labels is the reward."""
    from types import SimpleNamespace

    def forward(self, *args, **kwargs):
        return SimpleNamespace(logits=torch.tensor([[0.5, 9.0]]))

    score = hub_reward(classifier)
    monkeypatch.setattr(LlamaForSequenceClassification, "forward", forward)
    with pytest.raises(ConfigError, match="2 numbers for a completion, not one"):
        score(PROMPTS[:1], COMPLETIONS[:1], [None])
