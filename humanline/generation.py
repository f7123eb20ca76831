"""Sampling completions with transformers."""

from collections.abc import Iterator
from pathlib import Path

from humanline.config import Sampling
from humanline.data.preferences import user_turn

BATCH = 1024  # sequences at once; the miniature's caches then still fit a CPU's memory


def sample(
    model,
    tokenizer,
    prompts: list[list[dict]],
    *,
    n: int,
    sampling: Sampling,
    seed: int,
    batch_size: int = BATCH,
    progress: bool = False,
) -> list[dict]:
    """Sample `n` completions for each conversational prompt.

    Args:
        model, tokenizer: a causal language model and its tokenizer, which has a chat template.
        prompts: conversations that end with the user's turn.
        seed: of torch's generator; the same seed, batch size and machine give the same samples.
        batch_size: sequences sampled at once.
        progress: show a bar.

    Returns:
        For each prompt ``{"prompt_ids", "completion_ids"}``: its token ids, and `n` lists of the
        sampled ids up to and including the end-of-sequence token.
    """
    import torch
    from tqdm import tqdm

    prompt_ids = [
        tokenizer.apply_chat_template(p, add_generation_prompt=True, tokenize=True)["input_ids"]
        for p in prompts
    ]
    torch.manual_seed(seed)
    was_training = model.training
    model.eval()
    groups = []
    chunks = list(_chunks(prompt_ids, max(1, batch_size // n)))
    for chunk in tqdm(chunks, desc="sampling", unit="batch", disable=not progress):
        groups += _sample_chunk(model, tokenizer, chunk, n, sampling)
    model.train(was_training)
    return groups


def load_model(path: Path):
    """Load a model in float32 and its tokenizer, onto a GPU where there is one."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).to(device)
    return model, AutoTokenizer.from_pretrained(path)


def sample_text(model, tokenizer, prompts: list[str], **options) -> list[list[str]]:
    """`sample` for prompts of one user turn, with the completions as text."""
    groups = sample(model, tokenizer, [user_turn(p) for p in prompts], **options)
    return [tokenizer.batch_decode(g["completion_ids"], skip_special_tokens=True) for g in groups]


def _chunks(items: list, size: int) -> Iterator[list]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _sample_chunk(model, tokenizer, prompt_ids, n: int, sampling: Sampling) -> list[dict]:
    import torch

    inputs = tokenizer.pad({"input_ids": prompt_ids}, padding_side="left", return_tensors="pt")
    inputs = inputs.to(model.device)
    with torch.no_grad():
        output = model.generate(
            **inputs,
            do_sample=True,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=0,
            max_new_tokens=sampling.max_new_tokens,
            num_return_sequences=n,
            pad_token_id=tokenizer.pad_token_id,
        )
    completions = output[:, inputs["input_ids"].size(1) :].tolist()
    completions = [_until_end(ids, tokenizer.eos_token_id) for ids in completions]
    return [
        {"prompt_ids": ids, "completion_ids": completions[i * n : (i + 1) * n]}
        for i, ids in enumerate(prompt_ids)
    ]


def _until_end(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end) + 1] if end in ids else ids
