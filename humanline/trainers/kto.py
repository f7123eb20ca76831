"""KTO and its humanline variant, offline on labelled completions or online in rounds."""

import logging
from dataclasses import dataclass
from typing import ClassVar

import torch
from datasets import Dataset
from trl import KTOConfig, KTOTrainer
from trl.trainer import kto_trainer
from trl.trainer.utils import add_fused_lm_head

from humanline.method.losses import floored_mean, kto_kl_terms, kto_loss
from humanline.trainers.batches.rounds import RoundsTrainer, refuse_other_references
from humanline.trainers.common import HumanlineTrainer, only_the_policy, token_labels
from humanline.trainers.metrics import log_perception, log_preference_metrics, metrics_of
from humanline.trainers.options.humanline import HumanlineOptions, require_config
from humanline.trainers.rows.tokens import (
    columns_of,
    each,
    mismatched,
    require_rows,
    tokenized_labelled,
    unpaired,
    within,
)

_log = logging.getLogger(__name__)


@dataclass
class HumanlineKTOConfig(HumanlineOptions, KTOConfig):
    """TRL's `KTOConfig` with `humanline`, `log_eps_p`, `log_eps_r` and `sync_interval`."""

    positive: ClassVar = frozenset({"beta"})
    needs: ClassVar = {
        "loss_type": ("kto", "other losses have no KL term to perceive"),
        "precompute_ref_log_probs": (False, "the reference changes during training"),
        "use_liger_kernel": (False, "Liger's fused loss cannot perceive log-ratios"),
        "sync_ref_model": (False, "humanline syncs the reference itself, before the update"),
    }


class HumanlineKTOTrainer(RoundsTrainer, HumanlineTrainer, KTOTrainer):
    """TRL's `KTOTrainer` with humanline's clipping and syncing (arXiv 2509.24207).

    Takes the same arguments and data as TRL's, and `rounds` for online training.
    """

    examples_per_pair = 2
    placeholder_row: ClassVar = {
        "prompt_ids": [0],
        "completion_ids": [0],
        "KL_completion_ids": [0],
        "label": True,
    }

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
        args = require_config(args, HumanlineKTOConfig, model)
        refuse_other_references(rounds, args)
        require_rows(train_dataset, "train set")
        each(eval_dataset, require_rows, "eval set")
        data = data_collator, train_dataset, eval_dataset
        with only_the_policy(kto_trainer, model, loss_is_ours=args.humanline):
            super().__init__(model, ref_model, args, *data, *rest, **kwargs)
        self._start_humanline(ref_model)

    def _tokenized(self, dataset, processing_class, args, name: str):
        processes = args.dataset_num_proc
        if {"chosen", "rejected"} <= set(columns_of(dataset)):
            dataset = unpaired(dataset, name, processes)
        dataset = tokenized_labelled(dataset, processing_class, name, processes)
        dataset, counts = within(dataset, args.max_length, True, name)
        if self.calculate_KL:
            dataset = mismatched(dataset, args.per_device_train_batch_size, processes)
        if name == "train" and isinstance(dataset, Dataset):
            self._warn_of_imbalance(dataset["label"])
        return dataset, counts

    def _warn_of_imbalance(self, labels: list[bool]) -> None:
        """Warn, as TRL does, of weights that do not make up for the numbers of labels (Eq. 8)."""
        desirable = self.desirable_weight * max(sum(labels), 1)
        undesirable = self.undesirable_weight * max(len(labels) - sum(labels), 1)
        if len(labels) != 2 * sum(labels) and not 1 <= desirable / undesirable <= 4 / 3:
            _log.warning(
                "%s of %s rows are desirable; the authors of KTO advise weights by which desirable "
                "rows count 1 to 4/3 times as much in all as undesirable ones, and here it is %.2f "
                "times; change desirable_weight or undesirable_weight",
                *(sum(labels), len(labels), desirable / undesirable),
            )

    @staticmethod
    def round_examples(pairs: list[tuple], batch_size: int) -> list[dict]:
        """Turn pairs of token ids into examples, each batch with its mismatched KL completions."""
        examples = [
            {"prompt_ids": prompt, "completion_ids": completion, "label": label}
            for prompt, chosen, rejected in pairs
            for completion, label in ((chosen, True), (rejected, False))
        ]
        for start in range(0, len(examples), batch_size):
            batch = examples[start : start + batch_size]
            for i, example in enumerate(batch):
                # Two further: the next example has the same prompt, and would not be mismatched.
                mismatched = batch[(i + 2) % len(batch)]["completion_ids"]
                example["KL_completion_ids"] = mismatched
        return examples

    def _compute_loss(self, model, inputs, return_outputs):
        if not self.args.humanline:
            return super()._compute_loss(model, inputs, return_outputs)
        mask, kl_mask = (inputs[f"{p}completion_mask"][:, 1:] for p in ("", "KL_"))
        outputs = self._outputs(model, inputs)
        policy = outputs.log_probs[:, -mask.size(1) :]
        with torch.no_grad():
            kl_policy = self._outputs(model, inputs, "KL_").log_probs[:, -kl_mask.size(1) :]
        scores = self._reference_scores(inputs)
        reference = scores["completion"]
        self._require_numbers(policy, reference, mask)
        perceive = self._perception_of_batch()
        total, count = kto_kl_terms(kl_policy, scores["KL"], kl_mask, perceive=perceive)
        gather = self.accelerator.gather
        kl = floored_mean(gather(total).sum(), gather(count).sum())
        desirable = torch.as_tensor(inputs["label"], dtype=torch.bool, device=policy.device)
        result = kto_loss(
            policy,
            reference,
            mask,
            desirable,
            kl,
            beta=self.beta,
            desirable_weight=self.desirable_weight,
            undesirable_weight=self.undesirable_weight,
            perceive=perceive,
        )
        log_preference_metrics(self, outputs, inputs, desirable, self.beta * result.rewards)
        metrics = metrics_of(self)
        metrics["kl"].append(kl.item())
        metrics["humanline/steps_since_sync"] = [float(self._steps_since_sync())]
        for suffix, rows in (("_chosen", desirable), ("_rejected", ~desirable)):
            log_perception(self, policy[rows], reference[rows], mask[rows], suffix)
        loss = result.losses.mean()
        return (loss, self._plain_outputs(model, inputs)) if return_outputs else loss

    def _outputs(self, model, inputs, prefix: str = ""):
        """TRL's fused outputs for the completions, or with "KL_" for the mismatched ones."""
        ids = inputs[f"{prefix}input_ids"]
        return model(
            input_ids=ids,
            attention_mask=inputs[f"{prefix}attention_mask"],
            labels=token_labels(ids, inputs[f"{prefix}completion_mask"]),
            use_cache=False,
            fused_lm_head=True,
        )

    def _scores(self, model, inputs):
        return {
            name: self._outputs(model, inputs, prefix).log_probs[
                :, -inputs[f"{prefix}input_ids"].size(1) + 1 :
            ]
            for name, prefix in (("completion", ""), ("KL", "KL_"))
        }

    def _add_head(self, model):
        add_fused_lm_head(model)
