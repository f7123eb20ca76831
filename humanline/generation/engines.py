"""Sample completions: the interface of engines, and the engine that uses transformers."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from humanline.study.scale.sampling import Generation, Sampling
from humanline.trainers.rows.conversations import encode_prompts
from humanline.trainers.rows.lengths import TOKENS_AT_ONCE, batches, context_of, require_room
from humanline.trainers.rows.preferences import user_turn

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Engine(Protocol):
    """A model that completes prompts.

    Attributes:
        tokenizer: the model's tokenizer, with a chat template.
        context: most tokens of a prompt and its completion; None if the model does not say.
    """

    tokenizer: Any
    context: int | None

    def complete(
        self, prompt_ids: list[list[int]], *, n: int, sampling: Sampling, seed: int
    ) -> list[dict]:
        """Sample `n` completions of each prompt of token ids.

        An engine may take more options; `sample` describes them.

        Returns:
            For each prompt the dict that `sample` returns, without ``prompt_ids``.
        """


@contextmanager
def open_engine(path: Path, config: Generation, gpus: int = 1) -> Iterator[Engine]:
    """Load the model in a folder into the configured engine, and free it at the end of a block.

    Args:
        path: a Hugging Face folder with a model and its tokenizer.
        config: which engine, and its options.
        gpus: number of GPUs that share the model; ignored without GPUs.

    Raises:
        ConfigError: if vLLM is configured and cannot be imported.
    """
    if config.engine == "transformers":
        yield TransformersEngine(*load_model(path, config.dtype, gpus), config.most_at_once)
        return
    from humanline.generation.vllm_engine import VLLMEngine

    engine = VLLMEngine(path, config, gpus)
    try:
        yield engine
    finally:
        engine.close()


def sample(
    engine: Engine,
    prompts: list[list[dict]],
    *,
    n: int,
    sampling: Sampling,
    seed: int,
    place: Path | str = "prompts",
    **options,
) -> list[dict]:
    """Sample `n` completions for each conversational prompt.

    Args:
        engine: the model.
        prompts: conversations that end with the user's turn.
        n: completions per prompt.
        sampling: temperature, top-p, most new tokens, and strings that end a completion.
        seed: the same seed, engine and machine give the same samples.
        place: the file of the prompts, for errors.
        options: `log_probabilities=True` also scores the samples; `progress=True` shows a bar.

    Returns:
        For each prompt ``{"prompt_ids", "completion_ids"}``: its token ids, and `n` lists of
        sampled ids. A list ends with the end of sequence, or with the token that completes a string
        of `sampling.stop`. With `log_probabilities` also ``"log_probabilities"``: as many lists of
        floats, in nats, always under the model at temperature 1.

    Raises:
        ValueError: if several completions of a prompt are asked for at temperature 0.
        ConfigError: if a prompt leaves no room in the model's context for `max_new_tokens`.
    """
    if sampling.temperature == 0 and n > 1:
        raise ValueError(f"at temperature 0 all completions are alike; ask for 1, not {n}")
    prompt_ids = encode_prompts(engine.tokenizer, prompts)
    require_room(prompt_ids, engine.context, sampling.max_new_tokens, place)
    groups = engine.complete(prompt_ids, n=n, sampling=sampling, seed=seed, **options)
    return [{"prompt_ids": ids, **group} for ids, group in zip(prompt_ids, groups, strict=True)]


def sample_text(
    engine: Engine, prompts: list[str], *, sampling: Sampling, **options
) -> list[list[str]]:
    """Sample completions as text for prompts of one user turn; see `sample`.

    Returns:
        For each prompt its completions, cut before the first string of `sampling.stop`.
    """
    groups = sample(engine, [user_turn(p) for p in prompts], sampling=sampling, **options)
    decode = engine.tokenizer.batch_decode
    texts = [decode(group["completion_ids"], skip_special_tokens=True) for group in groups]
    return [[_before(text, sampling.stop) for text in group] for group in texts]


def load_model(
    path: Path, dtype: str = "float32", gpus: int = 1
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load a model and its tokenizer from a folder, onto GPUs if there are any.

    Args:
        path: a Hugging Face folder.
        dtype: torch's name of the type of the weights.
        gpus: number of GPUs that share the model.

    Raises:
        ConfigError: if weights are missing or damaged.
    """
    import torch

    from humanline.files.weights import load_folder

    device = "cuda" if torch.cuda.is_available() else "cpu"
    device_map = "balanced" if device == "cuda" and gpus > 1 else {"": device}
    model, tokenizer = load_folder(path, dtype=getattr(torch, dtype), device_map=device_map)
    if tokenizer.pad_token is None:  # Llama's tokenizer has none
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


class TransformersEngine:
    """An engine that samples with transformers.

    Args:
        model, tokenizer: a causal language model and its tokenizer.
        batch_size: most sequences at once; a group of completions of a prompt is not divided.
        batch_tokens: most tokens at once, with padding.
    """

    def __init__(
        self,
        model,
        tokenizer,
        batch_size: int = Generation().most_at_once,
        batch_tokens: int = TOKENS_AT_ONCE,
    ):
        self.model, self.tokenizer = model, tokenizer
        self.batch_size, self.batch_tokens = batch_size, batch_tokens
        self.context = context_of(model.config, tokenizer)

    def complete(
        self,
        prompt_ids: list[list[int]],
        *,
        n: int,
        sampling: Sampling,
        seed: int,
        log_probabilities: bool = False,
        progress: bool = False,
    ) -> list[dict]:
        """Sample completions; see `Engine`. The seed is set in torch's global generator."""
        import torch
        from tqdm import tqdm

        torch.manual_seed(seed)
        was_training = self.model.training
        self.model.eval()
        completions: list[list[list[int]]] = []
        lengths = [len(ids) + sampling.max_new_tokens for ids in prompt_ids]
        chunks = list(batches(lengths, self.batch_size // n, self.batch_tokens // n))
        for chunk in tqdm(chunks, desc="sampling", unit="batch", disable=not progress):
            completions += self._complete_chunk(prompt_ids[chunk], n, sampling)
        groups: list[dict] = [{"completion_ids": group} for group in completions]
        if log_probabilities:
            for group, scores in zip(groups, self._scores(prompt_ids, completions), strict=True):
                group["log_probabilities"] = scores
        self.model.train(was_training)
        return groups

    def _complete_chunk(self, prompt_ids, n: int, sampling: Sampling) -> list[list[list[int]]]:
        """Sample `n` completions of each prompt, in parts if they are too long for one batch."""
        longest = max(map(len, prompt_ids)) + sampling.max_new_tokens
        most = max(1, self.batch_tokens // (len(prompt_ids) * longest))
        if n <= most:
            return self._complete_together(prompt_ids, n, sampling)
        parts = [min(most, n - done) for done in range(0, n, most)]
        found = [self._complete_together(prompt_ids, part, sampling) for part in parts]
        return [list(chain(*groups)) for groups in zip(*found, strict=True)]

    def _complete_together(self, prompt_ids, n: int, sampling: Sampling) -> list[list[list[int]]]:
        import torch

        from humanline.trainers.shared.sampling import lean_generate

        inputs = self.tokenizer.pad(
            {"input_ids": prompt_ids}, padding_side="left", return_tensors="pt"
        ).to(self.model.device)
        ends, start = self._ends(), inputs["input_ids"].size(1)
        with torch.no_grad(), lean_generate(self.model):
            output = self.model.generate(
                **inputs,
                **self._options(sampling),
                stopping_criteria=self._stopping(sampling.stop, start),
                max_new_tokens=sampling.max_new_tokens,
                num_return_sequences=n,
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=sorted(ends),
            )
        rows = output[:, start:].tolist()
        rows = [self._until_stop(_until_end(ids, ends), sampling.stop) for ids in rows]
        return list(_chunks(rows, n))

    def _options(self, sampling: Sampling) -> dict:
        """Return options of `generate` that override those of the model's generation config."""
        options: dict = {"do_sample": False, "repetition_penalty": 1.0}
        if sampling.temperature:
            options |= {"do_sample": True, "temperature": sampling.temperature}
            options |= {"top_p": sampling.top_p, "top_k": 0}
        return options

    def _stopping(self, strings: tuple[str, ...], start: int) -> list:
        """Return criteria that end a sequence of `generate` at one of the strings.

        They read the completion alone, from `start` on. transformers' own also read the prompt.
        """
        import torch

        def has_stopped(input_ids, scores, **_):
            texts = self.tokenizer.batch_decode(input_ids[:, start:], skip_special_tokens=True)
            stopped = [_before(text, strings) != text for text in texts]
            return torch.tensor(stopped, device=input_ids.device)

        return [has_stopped] if strings else []

    def _ends(self) -> set[int]:
        """Return the tokens that end a completion: the model can have more than its tokenizer."""
        own = self.model.generation_config.eos_token_id
        own = [own] if isinstance(own, int) else own or []
        return {*own, self.tokenizer.eos_token_id}

    def _until_stop(self, ids: list[int], stop: tuple[str, ...]) -> list[int]:
        """Cut the padding after a string has stopped a sequence before the others ended."""
        decode = self.tokenizer.decode
        for length in range(1, len(ids) if stop else 0):
            text = decode(ids[:length], skip_special_tokens=True)
            if _before(text, stop) != text:
                return ids[:length]
        return ids

    def _scores(self, prompt_ids, completions) -> list[list[list[float]]]:
        from humanline.scoring.likelihood.tokens import score_ids

        pairs = [
            (prompt, completion)
            for prompt, group in zip(prompt_ids, completions, strict=True)
            for completion in group
        ]
        scores = iter(score_ids(self.model, self.tokenizer, pairs))
        return [[next(scores).tolist() for _ in group] for group in completions]


def _chunks(items: list, size: int) -> Iterator[list]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _until_end(ids: list[int], ends: set[int]) -> list[int]:
    for place, token in enumerate(ids):
        if token in ends:
            return ids[: place + 1]
    return ids


def _before(text: str, stop: tuple[str, ...]) -> str:
    """Cut a text before the first of the strings."""
    for string in stop:
        text = text.partition(string)[0]
    return text
