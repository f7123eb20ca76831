"""Losses, log-ratios and gradients are finite numbers, or training ends before an update."""

import math

import torch
from torch import Tensor

from humanline.files.validation import ConfigError
from humanline.trainers.options.trainer import TrainerOfTrl


class RequiresNumbers(TrainerOfTrl):
    """Mixin before a TRL trainer: nothing that is not finite changes a weight.

    On a CPU it looks at once. To look at a number of another device is to wait for all that the
    device has to do, so there it looks once a step: at the gradient's norm, before the update.
    """

    _unseen: tuple[tuple[str, Tensor], ...] = ()  # what the device has not told yet, by name

    def compute_loss(self, model, inputs, *args, **kwargs):
        """Compute TRL's loss, and end training if it is not finite.

        Raises:
            ConfigError: if the loss is nan or infinite, before any weight has changed.
        """
        result = super().compute_loss(model, inputs, *args, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        self._require_finite("the loss", loss.detach())
        return result

    def _get_grad_norm(self, model, *args, **kwargs):
        """Return the Trainer's gradient norm, and refuse nan before an update spreads it."""
        norm = super()._get_grad_norm(model, *args, **kwargs)
        unseen, self._unseen = self._unseen, ()
        if unseen:
            values = torch.stack([value for _, value in unseen]).tolist()
            for (name, _), value in zip(unseen, values, strict=True):
                self._refuse_not_finite(name, value)
        skips_itself = getattr(self.accelerator, "scaler", None) is not None  # float16's
        if norm is not None and not skips_itself:
            self._refuse_not_finite("the gradient's norm", float(norm))
        return norm

    def _require_numbers(self, policy: Tensor, reference: Tensor, mask: Tensor) -> None:
        """Refuse log-ratios that are not finite: clipping would hide infinity."""
        log_ratio = torch.where(mask.bool(), (policy - reference).detach(), 0.0)
        self._require_finite("the log-ratio of a token", log_ratio)

    def _require_finite(self, name: str, values: Tensor) -> None:
        """Refuse values that are not finite, now or before the update."""
        broken = torch.where(values.isfinite(), 0.0, values).sum()
        # DeepSpeed updates the weights within the backward pass; in evaluation there is no update.
        looks_later = self.model.training and not self.is_deepspeed_enabled
        if looks_later and values.device.type != "cpu":
            self._unseen += ((name, broken.float()),)
        else:
            self._refuse_not_finite(name, broken.item())

    def _refuse_not_finite(self, name: str, value: float) -> None:
        if not math.isfinite(value):
            raise ConfigError(
                f"after step {self.state.global_step}: {name} is {value}; nothing is saved: lower "
                "learning_rate, or look for broken weights and rows"
            )
