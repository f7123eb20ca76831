"""DPO and its humanline variant, offline on pairs or online in rounds."""

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from trl import DPOTrainer
from trl.trainer import dpo_trainer
from trl.trainer.utils import add_fused_lm_head

from humanline.method.losses import DPOLoss, dpo_loss, perceived_log_ratios
from humanline.method.perception import apart, passing
from humanline.trainers.batches.rounds import RoundsTrainer
from humanline.trainers.batches.together import Sequences, images_of, token_labels
from humanline.trainers.options.dpo import HumanlineDPOConfig
from humanline.trainers.rows.tokens import (
    drop_too_long,
    tokenized_pairs,
)
from humanline.trainers.shared.humanline_trainer import HumanlineTrainer
from humanline.trainers.shared.metrics import (
    Mean,
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


class HumanlineDPOTrainer(RoundsTrainer, DPOTrainer):
    """TRL's `DPOTrainer` with humanline's clipping and syncing (arXiv 2509.24207).

    Takes the arguments and data of TRL's trainer, and `rounds` (`batches.rounds.Rounds`) for online
    training.

    Raises:
        ValueError, ConfigError: if options, data and model do not fit together.
    """

    args: HumanlineDPOConfig
    config_class = HumanlineDPOConfig
    trl_module: ClassVar = dpo_trainer
    placeholder_row: ClassVar = {"prompt_ids": [0], "chosen_ids": [0], "rejected_ids": [0]}

    _options_of_order = (*HumanlineTrainer._options_of_order, "max_length")

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.loss_is_ours = cls.loss_is_ours or "loss_of_pairs" in vars(cls)

    def _tokenized(self, dataset, processing_class, args, name: str):
        dataset = tokenized_pairs(dataset, processing_class, name, args.dataset_num_proc)
        return drop_too_long(dataset, args.max_length, args.truncation_mode == "keep_start", name)

    @staticmethod
    def round_examples(pairs: list[tuple], batch_size: int) -> list[dict]:
        """Turn pairs of token ids into examples for TRL's collator."""
        keys = ("prompt_ids", "chosen_ids", "rejected_ids")
        return [dict(zip(keys, pair, strict=True)) for pair in pairs]

    def _compute_loss(self, model, inputs, return_outputs):
        if not self._uses_reference:
            return super()._compute_loss(model, inputs, return_outputs)
        mask = inputs["completion_mask"][:, 1:]
        outputs = self._outputs(model, inputs, **router_options(self))
        policy = outputs.log_probs[:, -mask.size(1) :]
        reference = self._reference_scores(inputs)["completion"]
        self._require_numbers(policy, reference, mask)
        scores, perceive = (policy, reference, mask), self._perception_of_batch()
        if self.args.is_papers_loss:
            loss = self._papers_loss(outputs, inputs, scores, perceive)
        else:
            perceived = perceived_log_ratios(*scores, apart(perceive, _is_chosen(mask)))
            loss = loss_of_trl(self, super()._compute_loss, inputs, outputs, perceived)
        loss = with_anchor(self, loss, policy.chunk(2)[0], mask.chunk(2)[0])
        metrics_of(self)["humanline/steps_since_sync"] = [float(self._steps_since_sync())]
        self.measure_later(partial(self._log_perception, _halves(scores), perceive))
        return (loss, self._plain_outputs(model, inputs)) if return_outputs else loss

    def _log_perception(self, halves: list[Scores], perceive) -> None:
        """Log chosen and rejected completions apart."""
        for suffix, (policy, reference, mask) in zip(("_chosen", "_rejected"), halves, strict=True):
            log_ratio = policy.detach() - reference
            log_perception(self, log_ratio, mask, passing(log_ratio, mask, perceive), suffix)

    def _papers_loss(self, outputs, inputs, scores, perceive):
        """Compute the paper's loss, and log TRL's metrics of it.

        Args:
            scores: (2 B, T) log-probabilities of policy and reference, and mask.
        """
        chosen, rejected = _halves(scores)
        result = self.loss_of_pairs(chosen, rejected, perceive)
        rewards = torch.cat([result.chosen_rewards, result.rejected_rewards])

        def measure() -> None:
            log_preference_metrics(self, outputs, inputs, _is_chosen(rewards), rewards)
            accuracy = (result.chosen_rewards > result.rejected_rewards).float()
            metrics_of(self)["rewards/accuracies"] += Mean.of_known(accuracy.mean()[None])

        self.measure_later(measure)
        return with_auxiliary_loss(self, result.losses.mean(), outputs.aux_loss)

    def loss_of_pairs(self, chosen: tuple, rejected: tuple, perceive) -> DPOLoss:
        """Compute the losses of a batch's pairs. An objective of your own overrides this method.

        Args:
            chosen, rejected: policy, reference and mask, (B, T) each; see `method.losses`.
            perceive: maps token log-ratios to perceived ones.

        Returns:
            Losses and rewards, (B,) each.
        """
        return dpo_loss(*chosen, *rejected, beta=self.beta, perceive=perceive)

    def _outputs(self, model, inputs, **options):
        """Compute the outputs of TRL's fused head for a batch."""
        return model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=token_labels(inputs["input_ids"], inputs["completion_mask"]),
            use_cache=False,
            fused_lm_head=True,
            **images_of(inputs),
            **options,
        )

    def _sequences(self, inputs):
        mask = inputs["completion_mask"]
        of_batch = inputs["input_ids"], inputs["attention_mask"], mask, mask.size(1) - 1
        return {"completion": Sequences(*of_batch, images_of(inputs))}

    def _add_head(self, model):
        add_fused_lm_head(model)


def _is_chosen(rows: Tensor) -> Tensor:
    """(2 B,) boolean: which of these rows are of chosen completions, the first half."""
    return torch.arange(len(rows), device=rows.device) < len(rows) // 2


def _halves(scores: Scores) -> list[Scores]:
    """Split tensors (2 B, T) into those of the chosen and of the rejected completions."""
    return list(zip(*(x.chunk(2) for x in scores), strict=True))
