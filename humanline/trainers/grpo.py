"""GRPO and its humanline variant, online or offline on stored groups."""

import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from accelerate.utils import is_peft_model
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from humanline.objectives import grpo_loss, masked_mean
from humanline.trainers.common import HumanlineOptions, HumanlineTrainer

_SEQUENCES_AT_ONCE = 1024
_STORED = ("prompt", "completions", "scores")


@dataclass
class HumanlineGRPOConfig(HumanlineOptions, GRPOConfig):
    """TRL's `GRPOConfig` with `humanline`, `log_eps_p`, `log_eps_r` and `sync_interval`."""

    needs: ClassVar = {
        "importance_sampling_level": ("token", "humanline perceives token by token"),
        "sync_ref_model": (False, "humanline syncs the reference itself, before the update"),
        "use_liger_kernel": (False, "Liger's fused loss cannot perceive log-ratios"),
        "top_entropy_quantile": (1.0, "the paper's loss counts all tokens"),
        "entropy_coef": (0.0, "the paper's loss has no entropy bonus"),
        "off_policy_mask_threshold": (None, "clipping takes the place of masking"),
        "delta": (None, "clipping takes the place of the second bound"),
        "use_adaptive_entropy": (False, "the paper's loss has no entropy bonus"),
    }

    def __post_init__(self):
        super().__post_init__()
        if self.humanline and self.loss_type not in ("grpo", "bnpo", "dapo", "dr_grpo"):
            raise ValueError(
                f"loss_type={self.loss_type!r} has no humanline meaning; choose grpo, bnpo, dapo "
                "or dr_grpo, or humanline=False"
            )


class HumanlineGRPOTrainer(HumanlineTrainer, GRPOTrainer):
    """TRL's `GRPOTrainer` with humanline's clipping and syncing (arXiv 2509.24207).

    Takes the same arguments and data as TRL's. A training set with the columns `prompt`,
    `completions` and `scores` (lists of `num_generations` each) is trained on as it is, offline:
    nothing is sampled and no `reward_funcs` are needed.

    The policy's ratio is taken against the reference. Under humanline that is the policy of the
    last sync; offline without humanline it is the initial model, which the stored completions are
    assumed to come from; online without humanline it is the policy that sampled, as in TRL.
    """

    def __init__(self, model, reward_funcs=None, args=None, train_dataset=None, **kwargs):
        stored = getattr(train_dataset, "column_names", None) or ()
        self.is_offline = set(_STORED) <= set(stored)
        if self.is_offline:
            _check_groups(train_dataset, args.num_generations)
            reward_funcs, kwargs["rollout_func"] = _stored_score, _replay
            self._groups = {_key(row["prompt"]): row["completions"] for row in train_dataset}
            # TRL hands the other columns to the reward function, which has an argument of that name
            train_dataset = train_dataset.remove_columns("completions")
        super().__init__(model, reward_funcs, args=args, train_dataset=train_dataset, **kwargs)
        self._uses_reference = args.humanline or self.is_offline
        self._is_scoring_rollouts = False
        if self._uses_reference and self.ref_model is None:
            if is_peft_model(self.model):
                raise ValueError("the ratio needs a reference model; PEFT is not supported yet")
            # TRL makes no reference where there is no KL penalty; the ratio needs one.
            reference = copy.deepcopy(self.model).eval().requires_grad_(False)
            # The copy's patched forward would still reach for the policy: patch it anew.
            reference.__dict__.pop("forward")
            add_fused_lm_head(
                reference,
                temperature=self.temperature,
                cast_lm_head_to_fp32=args.cast_lm_head_to_fp32,
            )
            self.ref_model = self.accelerator.prepare_model(reference, evaluation_mode=True)
        self._start_humanline()

    def get_train_dataloader(self):
        self._rollouts = _OncePerRollout(self.train_dataset)
        dataset, self.train_dataset = self.train_dataset, self._rollouts
        try:
            return super().get_train_dataloader()
        finally:
            self.train_dataset = dataset

    def _prepare_inputs(self, inputs):
        if self.model.training and self._step == 0:
            # After a resume, count from where the run stopped: TRL would start its windows anew.
            self._step = self.state.global_step * self.args.gradient_accumulation_steps
        return super()._prepare_inputs(inputs)

    def _save_checkpoint(self, model, trial):
        """Save the rollouts that are still to be trained on, too: they are the old policy's."""
        super()._save_checkpoint(model, trial)
        checkpoint = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        if self._step % self.args.steps_per_generation:
            torch.save(self._buffered_inputs, checkpoint / self._rollout_file)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        path = Path(resume_from_checkpoint, self._rollout_file)
        if path.exists():
            device = self.accelerator.device
            self._buffered_inputs = torch.load(path, map_location=device, weights_only=True)

    @property
    def _rollout_file(self) -> str:
        return f"rollout-{self.accelerator.process_index}.pt"

    def _generate_and_score_completions(self, inputs):
        started = time.perf_counter()
        # Empty where a rollout has the prompts of the one before.
        inputs = inputs or [dict(row) for row in self._rollouts.last_rows]
        self._is_scoring_rollouts = self._uses_reference and not self.use_vllm
        try:
            return super()._generate_and_score_completions(inputs)
        finally:
            self._is_scoring_rollouts = False
            self.sampling_seconds += time.perf_counter() - started

    def _generate_single_turn(self, prompt_ids, images, *args, **kwargs):
        """Sample in chunks where transformers samples: the caches of all would thrash memory."""
        if self.use_vllm or images is not None or len(prompt_ids) <= _SEQUENCES_AT_ONCE:
            return super()._generate_single_turn(prompt_ids, images, *args, **kwargs)
        completion_ids = []
        for start in range(0, len(prompt_ids), _SEQUENCES_AT_ONCE):
            chunk = prompt_ids[start : start + _SEQUENCES_AT_ONCE]
            completion_ids += super()._generate_single_turn(chunk, images, *args, **kwargs)[0]
        return completion_ids, None  # transformers returns no log-probabilities

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        if self._is_scoring_rollouts:
            # TRL would score the rollouts now; the reference may change before they are used.
            return None, None, None
        return super()._get_per_token_logps_and_entropies(*args, **kwargs)

    def _compute_loss(self, model, inputs):
        if not self._uses_reference:
            return super()._compute_loss(model, inputs)
        mask = inputs["completion_mask"]
        policy, entropies = self._token_scores(model, inputs, compute_entropy=True)
        with torch.no_grad():
            reference, _ = self._token_scores(self.ref_model, inputs)
        result = grpo_loss(
            policy,
            reference,
            mask,
            inputs["advantages"],
            epsilon_low=self.epsilon_low,
            epsilon_high=self.epsilon_high,
            beta=self.beta,
            perceive=self.perceive,
        )
        mode = "train" if self.model.training else "eval"
        metrics = self._metrics[mode]
        if self.beta:
            metrics["kl"].append(self._mean_over_processes(masked_mean(result.kl, mask)))
        metrics["entropy"].append(self._mean_over_processes(masked_mean(entropies, mask)))
        self._log_clipping(policy, reference, mask, inputs["advantages"], metrics)
        if self.args.humanline:
            self._log_perception(policy, reference, mask)
        return self._aggregate(result.losses, inputs, mode)

    def _token_scores(self, model, inputs, **options):
        """(B, T) log-probabilities of the completion under `model`, and entropies."""
        log_probs, entropies, _ = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            inputs["completion_ids"].size(1),
            **options,
        )
        return log_probs, entropies

    def _aggregate(self, losses: Tensor, inputs, mode: str) -> Tensor:
        """Reduce (B, T) token losses as TRL's `loss_type` says."""
        mask = inputs["completion_mask"]
        steps = self.current_gradient_accumulation_steps if mode == "train" else 1
        match self.loss_type:
            case "grpo":
                return (losses.sum(-1) / mask.sum(-1).clamp(min=1)).mean() / steps
            case "bnpo":
                return masked_mean(losses, mask) / steps
            case "dr_grpo":
                return losses.sum() / (len(losses) * self.max_completion_length) / steps
            case "dapo":
                # `num_items_in_batch` counts the generation batch: rescale it to one update.
                tokens = inputs["num_items_in_batch"].clamp(min=1) / self.accelerator.num_processes
                if mode == "train":
                    tokens = tokens * steps / self.args.steps_per_generation
                return losses.sum() / tokens

    def _log_clipping(self, policy, reference, mask, advantages, metrics) -> None:
        """Log TRL's `clip_ratio` metrics: how much the inner clipping silences."""
        ratio = torch.exp(self.perceive(policy - reference)).detach()
        low = (ratio < 1 - self.epsilon_low) & (advantages[:, None] < 0)
        high = (ratio > 1 + self.epsilon_high) & (advantages[:, None] > 0)
        for name, clipped in (("low", low), ("high", high), ("region", low | high)):
            share = self._mean_over_processes(masked_mean(clipped.float(), mask))
            metrics[f"clip_ratio/{name}_mean"].append(share)


class _OncePerRollout(torch.utils.data.Dataset):
    """A dataset whose repeated batches come back empty.

    TRL's loader hands the whole batch of a rollout to every one of its steps, which look at it
    once. With a rollout every 64 steps, fetching 64 steps' rows each step costs more than training.
    """

    def __init__(self, rows):
        self._rows = rows
        self._last: list[int] | None = None
        self.last_rows: list[dict] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, indices: list[int]) -> list[dict]:
        if indices == self._last:
            return []
        self._last = indices
        columns = self._rows[indices]
        rows = zip(*columns.values(), strict=True)
        self.last_rows = [dict(zip(columns, row, strict=True)) for row in rows]
        return self.last_rows


def _key(prompt) -> str:
    """A hashable form of a prompt, plain or conversational."""
    return prompt if isinstance(prompt, str) else str([(m["role"], m["content"]) for m in prompt])


def _check_groups(dataset, group_size: int) -> None:
    for row, (completions, scores) in enumerate(
        zip(dataset["completions"], dataset["scores"], strict=True)
    ):
        if not len(completions) == len(scores) == group_size:
            raise ValueError(
                f"row {row} of the stored groups has {len(completions)} completions and "
                f"{len(scores)} scores; num_generations={group_size} asks for that many of each"
            )
    prompts = {_key(prompt) for prompt in dataset["prompt"]}
    if len(prompts) != len(dataset):
        raise ValueError("the stored groups repeat a prompt; merge its groups into one")


def _replay(prompts: list, trainer: HumanlineGRPOTrainer) -> dict:
    """TRL's `rollout_func` for stored groups: return completions instead of sampling them."""
    tokenizer = trainer.processing_class
    prompt_ids, *_ = trainer._tokenize_prompts(prompts)
    position: dict[str, int] = {}
    texts, indices = [], []
    for key in map(_key, prompts):
        index = position.get(key, 0)
        position[key] = index + 1
        indices.append(index % trainer.num_generations)
        texts.append(trainer._groups[key][indices[-1]])
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    limit = trainer.max_completion_length
    completion_ids = [[*ids, tokenizer.eos_token_id][:limit] for ids in encoded]
    return {
        "prompt_ids": prompt_ids,
        "completion_ids": completion_ids,
        "logprobs": None,
        "stored_index": indices,
    }


def _stored_score(scores: list, stored_index: list, **_) -> list[float]:
    """TRL's reward function for stored groups."""
    return [row[index] for row, index in zip(scores, stored_index, strict=True)]
