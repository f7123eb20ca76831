"""GRPO and its humanline variant, online or offline on stored groups."""

import time
from contextlib import contextmanager, nullcontext
from functools import partial
from unittest import mock

import torch
from accelerate.utils import gather_object
from torch import Tensor
from trl import GRPOTrainer
from trl.trainer import grpo_trainer
from trl.trainer.utils import add_fused_lm_head

from humanline.method.perception import Perceive, passing
from humanline.trainers.batches.order import rows_of
from humanline.trainers.batches.require_steps import require_full_batch
from humanline.trainers.batches.rollouts import Rollouts, policy_token_mask
from humanline.trainers.batches.together import Sequences, images_of
from humanline.trainers.options.grpo import HumanlineGRPOConfig
from humanline.trainers.options.humanline import require_config
from humanline.trainers.rows.encoded import OPTIONS
from humanline.trainers.rows.lengths import batches, context_of, require_room_for
from humanline.trainers.rows.scores import check_rewards, checked_rewards
from humanline.trainers.rows.stored_groups import (
    COLUMNS,
    is_stored,
    mark_cut_off,
    refuse_sampling,
    replay,
    stored_score,
    tokenized_groups,
)
from humanline.trainers.rows.tokens import (
    all_prompt_ids,
    columns_of,
    for_each_dataset,
    refuse_media,
    require_prompts,
    require_rows,
)
from humanline.trainers.shared.humanline_trainer import HumanlineTrainer, only_the_policy
from humanline.trainers.shared.metrics import (
    greatest,
    least,
    log_perception,
    metrics_of,
    reading_nothing,
)
from humanline.trainers.shared.sampling import lean_generate

_SEQUENCES_AT_ONCE = 1024
_PARTS_OF_IMAGES = ("num_images", "num_tiles")  # of rows: how many the images of a batch are


class HumanlineGRPOTrainer(Rollouts, GRPOTrainer):
    """TRL's `GRPOTrainer` with humanline's clipping and syncing (arXiv 2509.24207).

    Takes the arguments and data of TRL's trainer. A training set with the columns `prompt`,
    `completions` and `scores` (lists of `num_generations` each) is trained on offline: nothing is
    sampled and no `reward_funcs` are needed.

    The ratio compares the policy with the reference. Under humanline the reference is the policy of
    the last sync. Offline without humanline it is the initial model, which is assumed to have made
    the stored completions. Online without humanline it is the policy that sampled, as in TRL.

    Raises:
        ValueError, ConfigError: if options, data, rewards and model do not fit together.
    """

    sequences_at_once: int | None = None  # that transformers samples at most; None: see below
    _scores_at_hand: tuple | None = None

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
                    "the training set has scores, so reward_funcs would not be used; leave them "
                    "out, or remove the columns completions and scores to sample anew"
                )
            refuse_sampling(args, kwargs)
            reward_funcs, kwargs["rollout_func"] = stored_score, replay
        sets = (("train", train_dataset), ("eval", eval_dataset))
        if self.is_offline:
            for name, dataset in sets:
                for_each_dataset(dataset, refuse_media, f"{name} set")
        require_rows(train_dataset, "train set")
        for_each_dataset(eval_dataset, require_rows, "eval set")
        if not self.is_offline and not kwargs.get("environment_factory"):  # it may own the prompts
            for name, dataset in sets:
                for_each_dataset(dataset, require_prompts, f"{name} set")
        self._row_counts = require_full_batch(train_dataset, args)
        loss_is_ours = args.humanline or self.is_offline
        with only_the_policy(grpo_trainer, model, loss_is_ours):
            super().__init__(
                model, reward_funcs, args, train_dataset, eval_dataset, *rest, **kwargs
            )
        if args.humanline and not self._is_vlm:
            for name, dataset in sets:
                for_each_dataset(dataset, refuse_media, f"{name} set")
        self._start_humanline()
        if self.is_offline:
            self.train_dataset = self._groups(self.train_dataset, "train")
            self.eval_dataset = for_each_dataset(self.eval_dataset, self._groups, "eval")

    def _groups(self, dataset, name: str):
        """Tokenize stored groups, unless they are tokenized already."""
        if set(columns_of(dataset)) >= set(COLUMNS):
            return dataset
        is_train = name == "train"
        size = self.num_generations if is_train else self.num_generations_eval
        groups, counts = tokenized_groups(dataset, self, size, name)
        if is_train:
            self._row_counts = self._row_counts | counts
        return groups

    @property
    def _uses_reference(self) -> bool:
        return self.args.humanline or self.is_offline

    _options_of_order = (
        *HumanlineTrainer._options_of_order,
        "num_generations",
        "steps_per_generation",
        "num_iterations",
        "shuffle_dataset",
        "max_completion_length",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "generation_kwargs",
    )

    def _add_head(self, model):
        cast = self.args.cast_lm_head_to_fp32
        add_fused_lm_head(model, temperature=self.temperature, cast_lm_head_to_fp32=cast)

    def _set_signature_columns_if_needed(self):
        """Name the columns that `remove_unused_columns` keeps, as TRL asks for here."""
        is_new = self._signature_columns is None
        super()._set_signature_columns_if_needed()
        if is_new:
            more = COLUMNS if self.is_offline else OPTIONS
            columns = [*(self._signature_columns or ()), *more]
            self._signature_columns = columns  # type: ignore[assignment]  # typed as always None

    def get_eval_dataloader(self, eval_dataset=None):
        if self.is_offline and not isinstance(eval_dataset, str | None):
            eval_dataset = self._groups(eval_dataset, "eval")
        return super().get_eval_dataloader(eval_dataset)

    def _generate_and_score_completions(self, inputs):
        started = time.perf_counter()
        inputs = [dict(row) for row in rows_of(inputs)]  # TRL adds keys to them
        self._rows_of_rollout = inputs
        weighs = self.use_vllm and self.vllm_importance_sampling_correction
        # TRL would score the rollout now, but the reference may change before it is trained on.
        leaves_out = self._uses_reference and not weighs
        beta, masks = self.beta, self.mask_truncated_completions
        if self._uses_reference:
            self.beta = 0.0  # with a beta TRL would score with its own reference
        if self.is_offline:
            self.mask_truncated_completions = False  # `mark_cut_off` does it better
        try:
            with self._with_scores(None, None, None) if leaves_out else nullcontext():
                batch = super()._generate_and_score_completions(inputs)
            return mark_cut_off(self, batch) if self.is_offline else batch
        finally:
            self.beta, self.mask_truncated_completions = beta, masks
            self.sampling_seconds += time.perf_counter() - started

    def _tokenize_prompts(self, prompts: list):
        if self._is_vlm or self.environment_factories is not None:
            return super()._tokenize_prompts(prompts)
        options = dict(self.chat_template_kwargs)
        if self.tools:
            options |= {"tools": self.tools, "chat_template": self.chat_template}
        return all_prompt_ids(self._tokenizer, prompts, self._rows_of_rollout, options), None, {}

    def _calculate_rewards(self, inputs, prompts, *args):
        """Calculate rewards as TRL does, and check them.

        Raises:
            ConfigError: naming the function and the prompt, if a value is neither a finite number
                nor None, or under humanline all functions give None.
        """
        with checked_rewards(self):
            rewards = super()._calculate_rewards(inputs, prompts, *args)
        check_rewards(rewards, self, prompts, may_lack=not self.args.humanline)
        return rewards

    def _generate_single_turn(self, *args, **kwargs):
        with nullcontext() if self.use_vllm else lean_generate(self.model):
            completion_ids, *rest = self._generate_in_chunks(*args, **kwargs)
        self.sampled_tokens += sum(map(len, completion_ids))
        return completion_ids, *rest

    def _generate_in_chunks(self, prompt_ids, images, *args, **kwargs):
        """Sample in chunks with transformers: the caches of all sequences may not fit memory."""
        if images is not None:
            return super()._generate_single_turn(prompt_ids, images, *args, **kwargs)
        new_tokens = self.max_completion_length or 1
        # With tools less room is enough: TRL ends a conversation that fills the context.
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
        place = f"max_completion_length={new_tokens}: the prompt that begins {begin!r}"
        require_room_for(len(longest), context, new_tokens, place)

    def _chunks(self, lengths: list[int]) -> list[slice]:
        """Split prompts into chunks, alike on all processes if each has a part of every layer."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            lengths = [max(own) for own in zip(*gather_object([lengths]), strict=True)]
        return list(batches(lengths, self.sequences_at_once or _SEQUENCES_AT_ONCE))

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        if self._scores_at_hand is not None:
            return self._scores_at_hand
        return super()._get_per_token_logps_and_entropies(*args, **kwargs)

    @contextmanager
    def _with_scores(self, *scores):
        """Give TRL these log-probabilities, entropies and auxiliary loss where it computes them."""
        self._scores_at_hand = scores
        try:
            yield
        finally:
            self._scores_at_hand = None

    def _compute_loss(self, model, inputs):
        """Compute TRL's loss by TRL's code, from log-probabilities that `perceived` prepares.

        So each of TRL's losses, and each option of theirs, has its meaning in TRL.
        """
        if not self._uses_reference:
            return super()._compute_loss(model, inputs)
        options = {"compute_entropy": True, "compute_aux_loss": self.aux_loss_enabled}
        policy, *others = self._token_scores(model, inputs, **options)
        reference, mask = self._reference_scores(inputs)["completion"], policy_token_mask(inputs)
        perceive = self._perception_of_batch()
        if self.args.humanline:
            self._require_numbers(policy, reference, mask)
            log_ratio = policy.detach() - reference
            scores = log_ratio, mask, perceive, inputs["advantages"]
            self.measure_later(partial(self._log_perception, *scores))
        policy, stand_ins = perceived(policy, reference, perceive, mask)
        # An adaptive entropy bonus needs the entropy for the next step.
        reading = nullcontext() if self.use_adaptive_entropy else reading_nothing()
        lean = mock.patch.multiple(grpo_trainer, nanmin=least, nanmax=greatest)
        with self._with_scores(policy, *others), reading, lean:
            return super()._compute_loss(model, inputs | stand_ins | self._tokens_of_step(inputs))

    def _tokens_of_step(self, inputs: dict) -> dict:
        """Compute the number that makes TRL divide by the tokens of the step.

        TRL divides by an equal share of the rollout's tokens, but its batches differ in tokens.
        """
        if "num_items_in_step" not in inputs:
            return {}
        share = self.current_gradient_accumulation_steps / self.args.steps_per_generation
        return {"num_items_in_batch": inputs["num_items_in_step"] / share}

    def _sequences(self, inputs):
        ids, mask = inputs["completion_ids"], inputs["completion_mask"]
        sequences = Sequences(
            torch.cat([inputs["prompt_ids"], ids], dim=1),
            torch.cat([inputs["prompt_mask"], mask], dim=1),
            torch.cat([torch.zeros_like(inputs["prompt_mask"]), mask], dim=1),
            width=ids.size(1),
            images=images_of(inputs),
        )
        return {"completion": sequences}

    def _token_scores(self, model, inputs, **options) -> tuple:
        """Compute the completion's (B, T) log-probabilities and entropies, and auxiliary loss."""
        parts = {name: inputs[name] for name in _PARTS_OF_IMAGES if name in inputs}
        return self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            inputs["completion_ids"].size(1),
            **images_of(inputs),
            **parts,
            **options,
        )

    def _log_perception(self, log_ratio, mask, perceive, advantages) -> None:
        """Log tokens with a positive advantage as chosen, the others as rejected.

        Advantages are TRL's, (B,), or a subclass's, (B, T).
        """
        metrics_of(self)["humanline/steps_since_sync"] = [float(self._steps_since_sync())]
        chances = passing(log_ratio, mask, perceive)
        is_good = (advantages if advantages.ndim > 1 else advantages[:, None]) > 0
        for suffix, of_sign in (("_chosen", is_good), ("_rejected", ~is_good)):
            log_perception(self, log_ratio, mask.bool() & of_sign, chances * of_sign, suffix)


def perceived(
    policy: Tensor, reference: Tensor, perceive: Perceive, mask: Tensor | None = None
) -> tuple[Tensor, dict]:
    """Compute log-probabilities from which TRL's loss gets the perceived log-ratio.

    TRL computes the ratio from policy - old policy; we give it an old policy that makes the
    difference the perceived log-ratio. It computes the KL penalty from reference - policy, which is
    not perceived. The losses cispo and vespo also weigh the policy's log-probabilities; there, too,
    a token beyond the bounds passes no gradient.

    Args:
        policy, reference: (B, T), in nats.
        perceive: maps log-ratios to perceived ones.
        mask: (B, T), non-zero on the tokens that count; None: all. The others are not perceived.

    Returns:
        The policy's values (B, T) with the gradient of the perceived log-ratio, and the old
        policy and the reference (B, T) by TRL's names.
    """
    log_ratio = policy - reference
    counted = torch.ones_like(log_ratio, dtype=torch.bool) if mask is None else mask.bool()
    seen = torch.where(counted, perceive(torch.where(counted, log_ratio, 0.0)), log_ratio)
    stand_in = policy.detach() + (seen - seen.detach())
    is_as_it_was = seen.detach() == log_ratio.detach()
    old = torch.where(is_as_it_was, reference, policy.detach() - seen.detach())
    # It has the reference's values. Its gradient makes the KL penalty's gradient the policy's own.
    whole = reference + (stand_in - policy)
    return stand_in, {"old_per_token_logps": old, "ref_per_token_logps": whole}
