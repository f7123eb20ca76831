"""DPO and its humanline variant, offline on pairs or online in rounds."""

from dataclasses import dataclass
from typing import ClassVar

from trl import DPOConfig, DPOTrainer
from trl.trainer import dpo_trainer
from trl.trainer.utils import add_fused_lm_head

from humanline.method.losses import dpo_loss
from humanline.trainers.batches.rounds import RoundsTrainer, refuse_other_references
from humanline.trainers.common import HumanlineTrainer, only_the_policy, token_labels
from humanline.trainers.metrics import (
    log_perception,
    log_preference_metrics,
    mean_over_processes,
    metrics_of,
)
from humanline.trainers.options.humanline import HumanlineOptions, require_config
from humanline.trainers.rows.tokens import each, require_rows, tokenized_pairs, within


@dataclass
class HumanlineDPOConfig(HumanlineOptions, DPOConfig):
    """TRL's `DPOConfig` with `humanline`, `log_eps_p`, `log_eps_r` and `sync_interval`."""

    positive: ClassVar = frozenset({"beta"})
    needs: ClassVar = {
        "loss_type": (["sigmoid"], "token log-ratios are clipped inside the sigmoid loss"),
        "precompute_ref_log_probs": (False, "the reference changes during training"),
        "sync_ref_model": (False, "humanline syncs the reference itself, before the update"),
        "f_divergence_type": ("reverse_kl", "the reward is the perceived log-ratio"),
        "label_smoothing": (0.0, "the paper's loss has no smoothing"),
        "ld_alpha": (None, "every token's log-ratio is perceived alike"),
        "loss_weights": (None, "there is one loss"),
        "use_liger_kernel": (False, "Liger's fused loss cannot perceive log-ratios"),
        "use_weighting": (False, "the paper's loss weighs all pairs alike"),
    }


class HumanlineDPOTrainer(RoundsTrainer, HumanlineTrainer, DPOTrainer):
    """TRL's `DPOTrainer` with humanline's clipping and syncing (arXiv 2509.24207).

    Takes the same arguments and data as TRL's, and `rounds` for online training.
    """

    placeholder_row: ClassVar = {"prompt_ids": [0], "chosen_ids": [0], "rejected_ids": [0]}

    _options_of_order = (*HumanlineTrainer._options_of_order, "max_length")

    def __init__(
        self,
        model,
        ref_model=None,
        args=None,
        data_collator=None,
        train_dataset=None,
        eval_dataset=None,
        *rest,
        rounds=None,
        **kwargs,
    ):
        self.rounds = rounds
        args = require_config(args, HumanlineDPOConfig, model)
        refuse_other_references(rounds, args)
        require_rows(train_dataset, "train set")
        each(eval_dataset, require_rows, "eval set")
        data = data_collator, train_dataset, eval_dataset
        with only_the_policy(dpo_trainer, model, loss_is_ours=args.humanline):
            super().__init__(model, ref_model, args, *data, *rest, **kwargs)
        self._start_humanline(ref_model)

    def _tokenized(self, dataset, processing_class, args, name: str):
        dataset = tokenized_pairs(dataset, processing_class, name, args.dataset_num_proc)
        return within(dataset, args.max_length, args.truncation_mode == "keep_start", name)

    @staticmethod
    def round_examples(pairs: list[tuple], batch_size: int) -> list[dict]:
        """Turn pairs of token ids into examples for TRL's collator."""
        keys = ("prompt_ids", "chosen_ids", "rejected_ids")
        return [dict(zip(keys, pair, strict=True)) for pair in pairs]

    def _compute_loss(self, model, inputs, return_outputs):
        if not self.args.humanline:
            return super()._compute_loss(model, inputs, return_outputs)
        mask = inputs["completion_mask"][:, 1:]
        outputs = self._outputs(model, inputs)
        policy = outputs.log_probs[:, -mask.size(1) :]
        reference = self._reference_scores(inputs)["completion"]
        chosen, rejected = (
            tuple(rows)
            for rows in zip(*(x.chunk(2) for x in (policy, reference, mask)), strict=True)
        )
        self._require_numbers(policy, reference, mask)
        perceive = self._perception_of_batch()
        result = dpo_loss(*chosen, *rejected, beta=self.beta, perceive=perceive)

        is_chosen = mask.new_zeros(len(mask), dtype=bool)
        is_chosen[: len(mask) // 2] = True
        rewards = result.chosen_rewards.new_empty(len(mask))
        rewards[is_chosen], rewards[~is_chosen] = result.chosen_rewards, result.rejected_rewards
        log_preference_metrics(self, outputs, inputs, is_chosen, rewards)
        accuracy = (result.chosen_rewards > result.rejected_rewards).float()
        metrics = metrics_of(self)
        metrics["rewards/accuracies"] += mean_over_processes(self, accuracy.mean()[None])
        metrics["humanline/steps_since_sync"] = [float(self._steps_since_sync())]
        log_perception(self, *chosen, suffix="_chosen")
        log_perception(self, *rejected, suffix="_rejected")
        loss = result.losses.mean()
        return (loss, self._plain_outputs(model, inputs)) if return_outputs else loss

    def _outputs(self, model, inputs):
        """TRL's fused outputs for a batch."""
        return model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=token_labels(inputs["input_ids"], inputs["completion_mask"]),
            use_cache=False,
            fused_lm_head=True,
        )

    def _scores(self, model, inputs):
        width = inputs["completion_mask"].size(1) - 1
        return {"completion": self._outputs(model, inputs).log_probs[:, -width:]}

    def _add_head(self, model):
        add_fused_lm_head(model)
