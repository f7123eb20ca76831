"""KTO and its humanline variant, offline on labelled completions or online in rounds."""

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from datasets import Dataset
from torch import Tensor
from trl import KTOConfig, KTOTrainer
from trl.trainer import kto_trainer
from trl.trainer.utils import add_fused_lm_head

from humanline.method.losses import (
    floored_mean,
    kto_kl_terms,
    kto_loss,
    perceived_log_ratios,
)
from humanline.method.perception import apart, passing
from humanline.trainers.batches.rounds import RoundsTrainer
from humanline.trainers.batches.together import (
    Sequences,
    images_of,
    scores_of,
    token_labels,
)
from humanline.trainers.options.humanline import HumanlineOptions
from humanline.trainers.rows.tokens import (
    columns_of,
    drop_too_long,
    tokenized_labelled,
    unpaired,
    with_mismatched,
)
from humanline.trainers.shared.humanline_trainer import HumanlineTrainer
from humanline.trainers.shared.metrics import (
    Scores,
    log_perception,
    log_preference_metrics,
    metrics_of,
)
from humanline.trainers.shared.trl_losses import (
    loss_of_trl,
    router_options,
    with_anchor,
    with_auxiliary_loss,
)

_LOSSES = ["kto", "apo_zero_unpaired"]
_log = logging.getLogger(__name__)


@dataclass
class HumanlineKTOConfig(HumanlineOptions, KTOConfig):
    """TRL's `KTOConfig` with the options of `HumanlineOptions`.

    Raises:
        ValueError: if an option is out of bounds, or has no humanline meaning.
    """

    positive: ClassVar = frozenset({"beta"})
    needs: ClassVar = {
        "precompute_ref_log_probs": (False, "the reference changes during training"),
    }

    loss_type: str = field(
        default="kto",
        metadata={
            "help": "One of TRL's losses. With humanline, it gets the perceived log-ratios of "
            "tokens, summed over a completion. kto: its KL term gets them, too. apo_zero_unpaired: "
            "it has no KL term.",
            "choices": _LOSSES,
        },
    )

    sft_weight: float = field(
        default=0.0,
        metadata={
            "help": "Of humanline: add this times the mean negative log-probability of the tokens "
            "of desirable completions: an anchor, since a reference that follows the policy "
            "is none."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        if self.loss_type == "kto" and (size := self.per_device_train_batch_size) < 2:
            raise ValueError(
                "per_device_train_batch_size must be at least 2 with loss_type='kto', whose KL "
                f"term pairs a prompt with another's completion; got {size}"
            )
        if not self.desirable_weight and not self.undesirable_weight:
            raise ValueError(
                "desirable_weight and undesirable_weight are both 0, so no row counts; raise one"
            )

    def _refuse_meaningless_options(self):
        super()._refuse_meaningless_options()
        if self.loss_type not in _LOSSES:
            raise ValueError(
                f"loss_type must be one of {', '.join(_LOSSES)}; got {self.loss_type!r}"
            )


class HumanlineKTOTrainer(RoundsTrainer, KTOTrainer):
    """TRL's `KTOTrainer` with humanline's clipping and syncing (arXiv 2509.24207).

    Takes the arguments and data of TRL's trainer, and `rounds` (`batches.rounds.Rounds`) for online
    training.

    Raises:
        ValueError, ConfigError: if options, data and model do not fit together.
    """

    config_class = HumanlineKTOConfig
    trl_module: ClassVar = kto_trainer
    examples_per_pair = 2
    placeholder_row: ClassVar = {
        "prompt_ids": [0],
        "completion_ids": [0],
        "KL_completion_ids": [0],
        "label": True,
    }

    # loss_type changes the rows: only those of `kto` have mismatched completions.
    _options_of_order = (*HumanlineTrainer._options_of_order, "max_length", "loss_type")

    def _tokenized(self, dataset, processing_class, args, name: str):
        processes = args.dataset_num_proc
        if {"chosen", "rejected"} <= set(columns_of(dataset)):
            dataset = unpaired(dataset, name, processes)
        dataset = tokenized_labelled(dataset, processing_class, name, processes)
        dataset, counts = drop_too_long(dataset, args.max_length, True, name)
        if self.calculate_KL:
            dataset = with_mismatched(dataset, args.per_device_train_batch_size, processes)
        if name == "train" and isinstance(dataset, Dataset):
            self._warn_of_imbalance(dataset["label"][:])
        return dataset, counts

    def _warn_of_imbalance(self, labels: list[bool]) -> None:
        """Warn, as TRL does, if the weights do not balance the labels (arXiv 2402.01306, eq. 8)."""
        desirable = self.desirable_weight * max(sum(labels), 1)
        undesirable = self.undesirable_weight * max(len(labels) - sum(labels), 1)
        if len(labels) != 2 * sum(labels) and not 1 <= desirable / undesirable <= 4 / 3:
            _log.warning(
                "%s of %s rows are desirable; the authors of KTO advise weights with which all "
                "desirable rows count 1 to 4/3 times as much as all undesirable ones; here it is "
                "%.2f times; change desirable_weight or undesirable_weight",
                *(sum(labels), len(labels), desirable / undesirable),
            )

    @staticmethod
    def round_examples(pairs: list[tuple], batch_size: int) -> list[dict]:
        """Turn pairs of token ids into examples, with mismatched completions within a batch."""
        examples = [
            {"prompt_ids": prompt, "completion_ids": completion, "label": label}
            for prompt, chosen, rejected in pairs
            for completion, label in ((chosen, True), (rejected, False))
        ]
        for start in range(0, len(examples), batch_size):
            batch = examples[start : start + batch_size]
            for i, example in enumerate(batch):
                # Two further: the next example may have the same prompt.
                mismatched = batch[(i + 2) % len(batch)]["completion_ids"]
                example["KL_completion_ids"] = mismatched
        return examples

    def _compute_loss(self, model, inputs, return_outputs):
        if not self.args.humanline:
            return super()._compute_loss(model, inputs, return_outputs)
        mask = inputs["completion_mask"][:, 1:]
        outputs = self._outputs(model, inputs, **router_options(self))
        policy = outputs.log_probs[:, -mask.size(1) :]
        kl_policy = self._kl_scores(model, inputs) if self.calculate_KL else None
        reference = self._reference_scores(inputs)
        scores, perceive = (policy, reference["completion"], mask), self._perception_of_batch()
        self._require_numbers(*scores)
        labels = torch.as_tensor(inputs["label"], dtype=torch.bool)
        desirable = labels.to(policy.device, non_blocking=True)
        of_label = apart(perceive, desirable)
        if kl_policy is not None:
            kl_scores = kl_policy, reference["KL"], inputs["KL_completion_mask"][:, 1:]
            kl = self._kl(kl_scores, perceive)
            loss = self._papers_loss(outputs, inputs, scores, desirable, kl, of_label)
        else:
            perceived = perceived_log_ratios(*scores, of_label)
            loss = loss_of_trl(self, super()._compute_loss, inputs, outputs, perceived)
        loss = with_anchor(self, loss, policy, mask, desirable)
        metrics_of(self)["humanline/steps_since_sync"] = [float(self._steps_since_sync())]
        self.measure_later(partial(self._log_perception, scores, desirable, perceive))
        return (loss, self._plain_outputs(model, inputs)) if return_outputs else loss

    def _log_perception(self, scores: Scores, desirable: Tensor, perceive) -> None:
        """Log desirable and undesirable completions, rows (B,), apart."""
        policy, reference, mask = scores
        log_ratio = policy.detach() - reference
        for suffix, rows in (("_chosen", desirable), ("_rejected", ~desirable)):
            counted = mask.bool() & rows[:, None]
            log_perception(self, log_ratio, counted, passing(log_ratio, counted, perceive), suffix)

    @torch.no_grad()
    def _kl_scores(self, model, inputs) -> Tensor:
        """Compute the (B, T) log-probabilities of the mismatched completions."""
        with self.log_probs_alone():
            return scores_of(model, [self._sequences(inputs)["KL"]])[0]

    def _kl(self, scores: Scores, perceive) -> Tensor:
        """Compute KTO's reference point over the mismatched completions of all processes.

        Args:
            scores: of the mismatched completions.
        """
        total, count = kto_kl_terms(*scores, perceive=perceive)
        gather = self.accelerator.gather
        kl = floored_mean(gather(total).sum(), gather(count).sum())
        metrics_of(self)["kl"].append(kl)
        return kl

    def _papers_loss(self, outputs, inputs, scores: Scores, desirable, kl, perceive) -> Tensor:
        """Compute KTO's loss, and log TRL's metrics of it.

        Args:
            scores: of the completions.
            desirable: (B,) boolean.
        """
        result = kto_loss(
            *scores,
            desirable,
            kl,
            beta=self.beta,
            desirable_weight=self.desirable_weight,
            undesirable_weight=self.undesirable_weight,
            perceive=perceive,
        )
        of_rewards = desirable, self.beta * result.rewards
        self.measure_later(partial(log_preference_metrics, self, outputs, inputs, *of_rewards))
        return with_auxiliary_loss(self, result.losses.mean(), outputs.aux_loss)

    def _outputs(self, model, inputs, **options):
        """Compute the outputs of TRL's fused head for the completions."""
        ids = inputs["input_ids"]
        return model(
            input_ids=ids,
            attention_mask=inputs["attention_mask"],
            labels=token_labels(ids, inputs["completion_mask"]),
            use_cache=False,
            fused_lm_head=True,
            **images_of(inputs),
            **options,
        )

    def _sequences(self, inputs):
        names = {"completion": ""} | ({"KL": "KL_"} if self.calculate_KL else {})
        sequences = {}
        for name, prefix in names.items():
            ids, attention_mask, mask = (
                inputs[prefix + key] for key in ("input_ids", "attention_mask", "completion_mask")
            )
            of_batch = ids, attention_mask, mask, ids.size(1) - 1
            sequences[name] = Sequences(*of_batch, images_of(inputs, prefix))
        return sequences

    def _add_head(self, model):
        add_fused_lm_head(model)
