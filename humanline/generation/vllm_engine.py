"""vLLM as an engine: on its own, or started by TRL with the weights of a policy in training."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

from humanline.files.validation import ConfigError
from humanline.study.scale.sampling import Generation, Sampling
from humanline.trainers.rows.lengths import context_of

os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # usage statistics need a network
# On a CPU the engines of parallel jobs would otherwise all bind to the same cores.
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")


class VLLMEngine:
    """An engine (see `engines.Engine`) that runs a folder's model with vLLM in its own processes.

    Args:
        path: a Hugging Face folder.
        config: vLLM's options.
        gpus: number of GPUs that share the model.

    Raises:
        ConfigError: if vLLM cannot be imported, or weights are missing or damaged.
    """

    def __init__(self, path: Path, config: Generation, gpus: int):
        from transformers import AutoConfig

        from humanline.files.weights import load_tokenizer, require_whole

        vllm = _import_vllm()
        require_whole(path)  # vLLM would load a folder with missing weights
        self.tokenizer = load_tokenizer(path)
        known = context_of(
            AutoConfig.from_pretrained(path, trust_remote_code=False), self.tokenizer
        )
        self.context = config.max_model_length or known
        self._llm = vllm.LLM(
            model=str(path),
            load_format="safetensors",
            dtype=config.dtype,
            tensor_parallel_size=gpus,
            gpu_memory_utilization=config.gpu_memory_utilization,
            max_model_len=config.max_model_length,
            enforce_eager=_on_cpu(),
        )

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
        """Sample completions; see `Engine`. Each prompt has its own seed, drawn with `seed`."""
        import numpy as np

        shared = {
            "n": n,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "stop": list(sampling.stop),
            "logprobs": 0 if log_probabilities else None,  # 0: only of the sampled token
        }
        seeds = np.random.SeedSequence(seed).generate_state(len(prompt_ids)).tolist()
        params = [_import_vllm().SamplingParams(seed=own, **shared) for own in seeds]
        prompts = [{"prompt_token_ids": ids} for ids in prompt_ids]
        outputs = self._llm.generate(prompts, params, use_tqdm=progress)
        groups = [
            {"completion_ids": [list(sequence.token_ids) for sequence in output.outputs]}
            for output in outputs
        ]
        if log_probabilities:
            for group, output in zip(groups, outputs, strict=True):
                group["log_probabilities"] = [_log_probabilities(s) for s in output.outputs]
        return groups

    def close(self) -> None:
        """End vLLM's processes, which frees their memory."""
        self._llm.llm_engine.engine_core.shutdown()


class PolicyEngine:
    """An engine (see `engines.Engine`) on TRL's vLLM, colocated or served.

    Before it samples, it copies the policy's present weights to vLLM.

    Args:
        trainer: the trainer of the policy.
        config: vLLM's options.
        gpus: number of GPUs that share the model in vLLM.

    Raises:
        ConfigError: if vLLM cannot be imported.
    """

    def __init__(self, trainer, config: Generation, gpus: int):
        _import_vllm()
        from trl.generation.vllm_generation import VLLMGeneration

        self.tokenizer = trainer.processing_class
        known = context_of(trainer.model.config, self.tokenizer)
        self.context = config.max_model_length or known
        options = trl_options(config, gpus)
        options = {name.removeprefix("vllm_"): value for name, value in options.items()}
        self._rank_in_shards = trainer.accelerator.process_index % gpus
        with colocation(config):
            self._vllm = VLLMGeneration(
                model=trainer.model,
                accelerator=trainer.accelerator,
                processing_class=trainer.processing_class,
                **options,
            )

    def complete(
        self, prompt_ids: list[list[int]], *, n: int, sampling: Sampling, seed: int
    ) -> list[dict]:
        """Sample completions; see `Engine`.

        The seed is set in torch's generator, which a colocated vLLM uses. Processes that share a
        model must draw the same numbers, so they take the seed of the first.
        """
        import torch

        self._sample_as(sampling)
        self._vllm.sync_weights()
        torch.manual_seed(seed - self._rank_in_shards)
        repeated = [ids for ids in prompt_ids for _ in range(n)]
        _, completions, *_ = self._vllm.generate(repeated, None, n)
        starts = range(0, len(completions), n)
        return [{"completion_ids": completions[start : start + n]} for start in starts]

    def _sample_as(self, sampling: Sampling) -> None:
        self._vllm.temperature, self._vllm.top_p = sampling.temperature, sampling.top_p
        self._vllm.max_completion_length = sampling.max_new_tokens


def trl_options(config: Generation, gpus: int) -> dict:
    """Return TRL's trainer arguments for vLLM; `gpus` is the number of GPUs that share a model."""
    return {
        "vllm_mode": config.online,
        "vllm_server_base_url": config.server_url,
        "vllm_tensor_parallel_size": gpus,
        "vllm_gpu_memory_utilization": config.online_memory_utilization,
        "vllm_max_model_length": config.max_model_length,
    }


@contextmanager
def colocation(config: Generation) -> Iterator[None]:
    """Change how TRL starts a colocated vLLM in a block, where TRL has no option.

    vLLM computes in `config.dtype`; it would use bfloat16 for a float32 model. On a CPU, vLLM keeps
    its weights unpacked: TRL copies the policy's weights with `load_weights`, which does not reach
    packed weights.

    Raises:
        ConfigError: if vLLM cannot be imported.
    """
    _import_vllm()
    if "MASTER_PORT" not in os.environ:
        os.environ["MASTER_PORT"] = str(_free_port())
    from trl.generation import vllm_generation
    from vllm.model_executor.layers import utils

    engine = partial(vllm_generation.LLM, dtype=config.dtype, enforce_eager=_on_cpu())
    with ExitStack() as changes:
        changes.enter_context(patch.object(vllm_generation, "LLM", engine))
        if _on_cpu():
            changes.enter_context(patch.object(utils, "dispatch_cpu_unquantized_gemm", _unpacked))
        yield


def _on_cpu() -> bool:
    """Say whether vLLM was built for CPUs; there, compiling takes longer than sampling."""
    from vllm.platforms import current_platform

    return current_platform.is_cpu()


def _free_port() -> int:
    """Find a free port. Jobs that start in parallel would all try TRL's default port first."""
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


def _unpacked(layer, remove_weight: bool) -> None:
    """Replace vLLM's choice of a matrix product on CPUs: multiply by the unpacked weight."""
    from torch.nn.functional import linear

    layer.cpu_linear = linear


def _log_probabilities(sequence) -> list[float]:
    """Return each token's log-probability in one output of vLLM: nats, at temperature 1."""
    tokens = zip(sequence.token_ids, sequence.logprobs, strict=True)
    return [found[token].logprob for token, found in tokens]


def _import_vllm():
    try:
        import vllm
    except ImportError as error:
        raise ConfigError(
            f"generation.engine: vllm cannot be imported ({error}); install it, as "
            "docs/paper-scale.md says, or set engine to transformers"
        ) from None
    return vllm
