"""Log-probabilities of given completions, against a plain forward pass of one sequence."""

import numpy as np
import torch

from humanline.scoring.likelihood.tokens import token_log_probabilities
from humanline.trainers.rows.preferences import assistant_turn, user_turn

PAIRS = [("a+ ~ L", "adad"), ("b- * S", "b"), ("1+2=", "3"), ("a+ ~ L", "")]


def plain(model, tokenizer, prompt: str, completion: str) -> np.ndarray:
    """Of the whole conversation at once, without padding, what follows the prompt."""
    start = len(tokenizer.apply_chat_template(user_turn(prompt), tokenize=True)["input_ids"])
    conversation = user_turn(prompt) + assistant_turn(completion)
    ids = torch.tensor(tokenizer.apply_chat_template(conversation, tokenize=True)["input_ids"])
    with torch.no_grad():
        log_probs = model(ids[None]).logits[0].log_softmax(-1)
    return log_probs[:-1].gather(1, ids[1:, None])[start - 1 :, 0].numpy()


def test_padding_and_batches_change_nothing(model, tokenizer):
    model.eval()
    expected = [plain(model, tokenizer, *pair) for pair in PAIRS]
    for batch_size in (1, 3, 4):
        found = token_log_probabilities(model, tokenizer, PAIRS, batch_size=batch_size)
        assert [len(row) for row in found] == [5, 2, 2, 1]  # with the end of sequence
        for own, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(own, other, atol=1e-5)


def test_they_are_log_probabilities(model, tokenizer):
    for row in token_log_probabilities(model, tokenizer, PAIRS):
        assert (row < 0).all()
