"""KTO and its humanline variant, offline on labelled completions or online in rounds."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from trl import KTOConfig, KTOTrainer

from humanline.objectives import floored_mean, kto_kl_terms, kto_loss
from humanline.trainers.common import (
    HumanlineOptions,
    HumanlineTrainer,
    log_preference_metrics,
    token_labels,
)
from humanline.trainers.rounds import RoundsTrainer


@dataclass
class HumanlineKTOConfig(HumanlineOptions, KTOConfig):
    """TRL's `KTOConfig` with `humanline`, `log_eps_p`, `log_eps_r` and `sync_interval`."""

    needs: ClassVar = {
        "loss_type": ("kto", "other losses have no KL term to perceive"),
        "precompute_ref_log_probs": (False, "the reference changes during training"),
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

    def __init__(self, *args, rounds=None, **kwargs):
        self.rounds = rounds
        super().__init__(*args, **kwargs)
        self._start_humanline()

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
        outputs, policy, reference, mask = self._score(model, inputs, "")
        with torch.no_grad():
            _, *kl_scores = self._score(model, inputs, "KL_")
        total, count = kto_kl_terms(*kl_scores, perceive=self.perceive)
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
            perceive=self.perceive,
        )
        log_preference_metrics(self, outputs, inputs, desirable, self.beta * result.rewards)
        self._metrics["train" if self.model.training else "eval"]["kl"].append(kl.item())
        for suffix, rows in (("_chosen", desirable), ("_rejected", ~desirable)):
            self._log_perception(policy[rows], reference[rows], mask[rows], suffix)
        loss = result.losses.mean()
        return (loss, outputs) if return_outputs else loss

    def _score(self, model, inputs, prefix: str):
        """Outputs and (B, T) log-probabilities of policy and reference, and the mask."""
        batch = {
            "input_ids": inputs[f"{prefix}input_ids"],
            "attention_mask": inputs[f"{prefix}attention_mask"],
        }
        completion_mask = inputs[f"{prefix}completion_mask"]
        batch["labels"] = token_labels(batch["input_ids"], completion_mask)
        mask = completion_mask[:, 1:]
        outputs = model(**batch, use_cache=False, fused_lm_head=True)
        reference = self._reference_outputs(**batch).log_probs[:, -mask.size(1) :]
        return outputs, outputs.log_probs[:, -mask.size(1) :], reference, mask
