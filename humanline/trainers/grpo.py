"""GRPO and its humanline variant, online or offline on stored groups."""

import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from accelerate.utils import gather_object
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer
from trl.trainer import grpo_trainer
from trl.trainer.utils import add_fused_lm_head

from humanline.lengths import batches, context_of, require_room
from humanline.objectives import grpo_loss, masked_mean
from humanline.trainers.common import HumanlineTrainer, load_on, only_the_policy
from humanline.trainers.metrics import log_perception, mean_over_processes, metrics_of
from humanline.trainers.options import HumanlineOptions, require_config
from humanline.trainers.rows import (
    columns_of,
    each,
    prompt_ids_of,
    refuse_media,
    require_rows,
)
from humanline.trainers.scores import check_rewards, checked
from humanline.trainers.stored import (
    is_stored,
    mark_cut_off,
    refuse_sampling,
    replay,
    stored_score,
    tokenized_groups,
)
from humanline.trainers.work import require_full_batch

_SEQUENCES_AT_ONCE = 1024
# Values of options of sampling that leave the policy's distribution, at its temperature, as it is.
_SAMPLES_ALL = {
    "top_p": (1.0, None),
    "top_k": (0, -1, None),
    "min_p": (None, 0.0),
    "repetition_penalty": (1.0, None),
    "vllm_structured_outputs_regex": (None,),
    **dict.fromkeys(("presence_penalty", "frequency_penalty", "min_tokens"), (0, None)),
    **dict.fromkeys(("structured_outputs", "allowed_token_ids", "logits_processors"), (None,)),
    **dict.fromkeys(("logit_bias", "bad_words"), (None, {}, [])),
}


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
    use_bias_correction_kl: bool | None = field(
        default=None,
        metadata={
            "help": "Multiply the KL penalty by the ratio, as TRL does. None: with humanline=False "
            "alone, for the paper's penalty has no such factor."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        if self.humanline and self.loss_type not in ("grpo", "bnpo", "dapo", "dr_grpo"):
            raise ValueError(
                f"loss_type={self.loss_type!r} has no humanline meaning; choose grpo, bnpo, dapo "
                "or dr_grpo, or humanline=False"
            )
        if self.use_bias_correction_kl is None:
            self.use_bias_correction_kl = not self.humanline
        if self.humanline and self.use_bias_correction_kl and self.beta:
            raise ValueError(
                "use_bias_correction_kl=True has no humanline meaning: the paper's KL penalty is "
                "not multiplied by the ratio. Leave it out, or set humanline=False"
            )
        narrowing = self.narrowing()
        compares = "vllm_importance_sampling_correction", "off_policy_mask_threshold"
        biased = [name for name in compares if getattr(self, name)]
        if self.use_vllm and narrowing and biased:
            raise ValueError(
                f"{biased[0]} is biased by {narrowing}, for vLLM then samples from a part of the "
                "policy that TRL's ratio does not know; switch it off, as in the authors' code"
            )

    def narrowing(self) -> str | None:
        """The option, if any, by which sampling is from another distribution than the policy's."""
        options = dict(self.generation_kwargs or {})
        for name, (neutral, *others) in _SAMPLES_ALL.items():
            value = options.get(name, getattr(self, name, neutral))
            if value not in (neutral, *others):
                return f"{name}={value!r}"
        return None


class HumanlineGRPOTrainer(HumanlineTrainer, GRPOTrainer):
    """TRL's `GRPOTrainer` with humanline's clipping and syncing (arXiv 2509.24207).

    Takes the same arguments and data as TRL's. A training set with the columns `prompt`,
    `completions` and `scores` (lists of `num_generations` each) is trained on as it is, offline:
    nothing is sampled and no `reward_funcs` are needed.

    The policy's ratio is taken against the reference. Under humanline that is the policy of the
    last sync; offline without humanline it is the initial model, which the stored completions are
    assumed to come from; online without humanline it is the policy that sampled, as in TRL.
    """

    def __init__(
        self,
        model,
        reward_funcs=None,
        args=None,
        train_dataset=None,
        eval_dataset=None,
        *rest,
        **kwargs,
    ):
        args = require_config(args, HumanlineGRPOConfig, model)
        self.is_offline = is_stored(train_dataset)
        if self.is_offline:
            if reward_funcs is not None:
                raise ValueError(
                    "the training set has scores, which reward_funcs would not be asked for; leave "
                    "them out, or remove the columns completions and scores to sample anew"
                )
            refuse_sampling(args, kwargs)
            reward_funcs, kwargs["rollout_func"] = stored_score, replay
        if args.humanline or self.is_offline:
            for name, dataset in (("train", train_dataset), ("eval", eval_dataset)):
                each(dataset, refuse_media, f"{name} set")
        require_rows(train_dataset, "train set")
        each(eval_dataset, require_rows, "eval set")
        self._rows_told = require_full_batch(train_dataset, args)
        self._is_scoring_rollouts = False
        loss_is_ours = args.humanline or self.is_offline
        with only_the_policy(grpo_trainer, model, loss_is_ours):
            super().__init__(
                model, reward_funcs, args, train_dataset, eval_dataset, *rest, **kwargs
            )
        self._start_humanline()
        if self.is_offline:
            self.train_dataset = self._groups(self.train_dataset, "train")
            self.eval_dataset = each(self.eval_dataset, self._groups, "eval")

    def _groups(self, dataset, name: str):
        """Stored groups as token ids; those that are so already as they are."""
        if "stored_completion_ids" in columns_of(dataset):
            return dataset
        is_train = name == "train"
        size = self.num_generations if is_train else self.num_generations_eval
        groups, counts = tokenized_groups(dataset, self, size, name)
        if is_train:
            self._rows_told = self._rows_told | counts
        return groups

    @property
    def _uses_reference(self) -> bool:
        return self.args.humanline or self.is_offline

    def _add_head(self, model):
        cast = self.args.cast_lm_head_to_fp32
        add_fused_lm_head(model, temperature=self.temperature, cast_lm_head_to_fp32=cast)

    def get_eval_dataloader(self, eval_dataset=None):
        if self.is_offline and not isinstance(eval_dataset, str | None):
            eval_dataset = self._groups(eval_dataset, "eval")
        return super().get_eval_dataloader(eval_dataset)

    def get_train_dataloader(self):
        if self.args.dataloader_num_workers:  # they fetch in advance, and in another process
            return super().get_train_dataloader()
        self._rollouts = _OncePerRollout(self.train_dataset)
        dataset, self.train_dataset = self.train_dataset, self._rollouts
        try:
            return super().get_train_dataloader()
        finally:
            self.train_dataset = dataset

    def _prepare_batch(self, inputs):
        """Count the batches that are prepared, which may be ahead of those trained on."""
        if not self.model.training:
            return super()._prepare_batch(inputs)
        step, self._step = self._step, self._next_to_prepare
        try:
            with self._seeded() if self.is_offline else nullcontext():
                return super()._prepare_batch(inputs)
        finally:
            self._step = step
            self._prepared_batches = self._next_to_prepare + 1

    @contextmanager
    def _seeded(self):
        """Shuffle stored rollouts alike, whether they are read ahead of their step or not."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.args.seed + self._step)
            yield

    @property
    def _next_to_prepare(self) -> int:
        """The number of the next batch to prepare; TRL would count anew after a resume."""
        if self._prepared_batches is None:
            trained_on = self.state.global_step * self.args.gradient_accumulation_steps
            self._prepared_batches = trained_on + len(self._ahead)
        return self._prepared_batches

    def forget_what_is_ahead(self):
        super().forget_what_is_ahead()
        self._prepared_batches: int | None = None

    def _is_next_known(self) -> bool:
        window = self.args.steps_per_generation * self.num_iterations
        is_sampled = self.is_offline or self._next_to_prepare % window != 0
        return is_sampled and super()._is_next_known()

    def _save_checkpoint(self, model, trial):
        """Save the rollouts that are still to be trained on, too: they are the old policy's."""
        super()._save_checkpoint(model, trial)
        checkpoint = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        if self._next_to_prepare % self.args.steps_per_generation:
            torch.save(self._buffered_inputs, checkpoint / self._rollout_file)

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        path = Path(checkpoint, self._rollout_file) if checkpoint else None
        if path and path.exists():
            self._buffered_inputs = load_on(self.accelerator.device, path)

    @property
    def _rollout_file(self) -> str:
        return f"rollout-{self.accelerator.process_index}.pt"

    def _generate_and_score_completions(self, inputs):
        started = time.perf_counter()
        # Empty where a rollout has the prompts of the one before.
        inputs = inputs or [dict(row) for row in self._rollouts.last_rows]
        self._rows_of_rollout = inputs
        weighs = self.use_vllm and self.vllm_importance_sampling_correction
        self._is_scoring_rollouts = self._uses_reference and not weighs
        beta, masks = self.beta, self.mask_truncated_completions
        if self._uses_reference:
            self.beta = 0.0  # or TRL would ask a reference that it made itself
        if self.is_offline:
            self.mask_truncated_completions = False  # we know better what is cut off
        try:
            batch = super()._generate_and_score_completions(inputs)
            return mark_cut_off(self, batch) if self.is_offline else batch
        finally:
            self.beta, self.mask_truncated_completions = beta, masks
            self._is_scoring_rollouts = False
            self.sampling_seconds += time.perf_counter() - started

    def _tokenize_prompts(self, prompts: list):
        if self._is_vlm or self.environment_factories is not None:
            return super()._tokenize_prompts(prompts)
        options = dict(self.chat_template_kwargs)
        if self.tools:
            options |= {"tools": self.tools, "chat_template": self.chat_template}
        rows = zip(prompts, self._rows_of_rollout, strict=True)
        return [prompt_ids_of(self._tokenizer, *row, options) for row in rows], None, {}

    def _calculate_rewards(self, inputs, prompts, *args):
        """TRL's, of functions that give each completion a finite number, or None for no meaning.

        Raises:
            ConfigError: naming the function and the prompt, if one gives something else, or all of
                them None.
        """
        functions = self.reward_funcs
        named = zip(functions, self.reward_func_names, strict=True)
        self.reward_funcs = [
            function if isinstance(function, torch.nn.Module) else checked(function, name)
            for function, name in named
        ]
        try:
            rewards = super()._calculate_rewards(inputs, prompts, *args)
        finally:
            self.reward_funcs = functions
        are_models = [isinstance(function, torch.nn.Module) for function in functions]
        names = self.reward_func_names
        check_rewards(rewards, names, are_models, prompts, self.accelerator.process_index)
        return rewards

    def _generate_single_turn(self, *args, **kwargs):
        completion_ids, *rest = self._generate_in_chunks(*args, **kwargs)
        self.sampled_tokens += sum(map(len, completion_ids))
        return completion_ids, *rest

    def _generate_in_chunks(self, prompt_ids, images, *args, **kwargs):
        """Sample in chunks where transformers samples: the caches of all would thrash memory."""
        if images is not None:
            return super()._generate_single_turn(prompt_ids, images, *args, **kwargs)
        new_tokens = self.max_completion_length or 1
        # A tool's answer may leave less room than that, and TRL then ends the conversation.
        self._require_room(prompt_ids, 1 if self.tools else new_tokens)
        chunks = self._chunks([len(ids) + new_tokens for ids in prompt_ids])
        if self.use_vllm or len(chunks) == 1:
            return super()._generate_single_turn(prompt_ids, images, *args, **kwargs)
        completion_ids = []
        for chunk in chunks:
            prompts = prompt_ids[chunk]
            completion_ids += super()._generate_single_turn(prompts, images, *args, **kwargs)[0]
        return completion_ids, None  # transformers returns no log-probabilities

    def _require_room(self, prompt_ids: list[list[int]], new_tokens: int) -> None:
        tokenizer = getattr(self.processing_class, "tokenizer", self.processing_class)
        context = context_of(self.model.config, tokenizer)
        if self.use_vllm:
            context = self.args.vllm_max_model_length or context
        longest = max(prompt_ids, key=len)
        begin = tokenizer.decode(longest[:20], skip_special_tokens=True)
        place = f"the prompt that begins {begin!r}"
        require_room([longest], context, new_tokens, place)

    def _chunks(self, lengths: list[int]) -> list[slice]:
        """What is sampled together; the same for all processes where each has a part of a layer."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            lengths = [max(own) for own in zip(*gather_object([lengths]), strict=True)]
        return list(batches(lengths, _SEQUENCES_AT_ONCE))

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        if self._is_scoring_rollouts:
            # TRL would score the rollouts now; the reference may change before they are used.
            return None, None, None
        return super()._get_per_token_logps_and_entropies(*args, **kwargs)

    def _compute_loss(self, model, inputs):
        if not self.args.humanline:
            if self.is_offline:  # the initial model stands for the old policy, too
                initial = self._reference_scores(inputs)["completion"]
                inputs = inputs | {"old_per_token_logps": initial, "ref_per_token_logps": initial}
            return super()._compute_loss(model, inputs)
        mask = _trained_on(inputs)
        policy, entropies = self._token_scores(model, inputs, compute_entropy=True)
        reference = self._reference_scores(inputs)["completion"]
        self._require_numbers(policy, reference, mask)
        perceive = self._perception_of_batch()
        result = grpo_loss(
            policy,
            reference,
            mask,
            inputs["advantages"],
            epsilon_low=self.epsilon_low,
            epsilon_high=self.epsilon_high,
            beta=self.beta,
            perceive=perceive,
            weights=self._weights_of(inputs),
        )
        averages = {"entropy": entropies}
        if self.beta:
            averages["kl"] = result.kl
        clipped = self._clipped(perceive(policy - reference).detach(), inputs["advantages"])
        averages |= {f"clip_ratio/{name}_mean": where for name, where in clipped.items()}
        means = torch.stack([masked_mean(x, mask) for x in averages.values()])
        for name, mean in zip(averages, mean_over_processes(self, means), strict=True):
            metrics_of(self)[name].append(mean)
        for name, extreme, of in (("low", "min", torch.amin), ("high", "max", torch.amax)):
            shares = (clipped[name] * mask).sum(1) / mask.sum(1).clamp(min=1)
            value = of(self.accelerator.gather(shares), 0).item()
            metrics_of(self)[f"clip_ratio/{name}_{extreme}"].append(value)
        self._log_perception(policy, reference, mask, inputs["advantages"])
        return self._aggregate(result.losses, inputs)

    def _weights_of(self, inputs) -> Tensor | None:
        """TRL's for what vLLM samples otherwise than the policy would, where they are unbiased."""
        return None if self.args.narrowing() else inputs.get("importance_sampling_ratio")

    def _scores(self, model, inputs):
        return {"completion": self._token_scores(model, inputs)[0]}

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

    def _aggregate(self, losses: Tensor, inputs) -> Tensor:
        """Reduce (B, T) token losses as TRL's `loss_type` says."""
        mask = _trained_on(inputs)
        training = self.model.training
        steps = self.current_gradient_accumulation_steps if training else 1
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
                if training:
                    tokens = tokens * steps / self.args.steps_per_generation
                return losses.sum() / tokens

    def _clipped(self, log_ratio: Tensor, advantages: Tensor) -> dict[str, Tensor]:
        """For TRL's `clip_ratio` metrics: the tokens that the inner clipping silences."""
        ratio, sign = torch.exp(log_ratio), advantages[:, None]
        low = (ratio < 1 - self.epsilon_low) & (sign < 0)
        high = (ratio > 1 + self.epsilon_high) & (sign > 0)
        clipped = {"low": low, "high": high, "region": low | high}
        return {name: where.float() for name, where in clipped.items()}

    def _log_perception(self, policy, reference, mask, advantages) -> None:
        """Completions with a positive advantage stand where other objectives have chosen ones."""
        metrics_of(self)["humanline/steps_since_sync"] = [float(self._steps_since_sync())]
        for suffix, rows in (("_chosen", advantages > 0), ("_rejected", advantages <= 0)):
            log_perception(self, policy[rows], reference[rows], mask[rows], suffix)


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


def _trained_on(inputs: dict) -> Tensor:
    """(B, T), non-zero on the completion's tokens that the policy, not a tool, has written."""
    mask = inputs["completion_mask"]
    return mask * inputs["tool_mask"] if "tool_mask" in inputs else mask
