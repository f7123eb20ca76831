"""Losses, log-ratios and gradients are finite numbers, or training ends, and no weight is wrong."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from humanline.files.validation import ConfigError
from humanline.trainers.options.trainer import TrainerOfTrl


class _Answers(NamedTuple):
    """Numbers of a step that are on their way to main memory, and what each is of."""

    step: int
    names: list[str]
    values: Tensor
    are_here: torch.cuda.Event | None  # None: they are here


class RequiresNumbers(TrainerOfTrl):
    """Mixin before a TRL trainer: nothing that is not finite changes a weight.

    On a CPU it looks at once. To look at a number of another device is to wait for all that the
    device has to do, so there it looks when the answer has come: before the next update, or before
    anything is logged, evaluated or saved. Until then a fused optimizer leaves out the update by
    itself. With another optimizer, or several processes, it waits before the update.
    """

    _unasked: tuple[tuple[str, Tensor], ...] = ()  # numbers of this step on the device, by name
    _answers: _Answers | None = None  # about the last update

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
        self._look()
        unasked, self._unasked = self._unasked, ()
        skips_itself = getattr(self.accelerator, "scaler", None) is not None  # float16's
        if norm is not None and not skips_itself:
            norm_of_all = norm if isinstance(norm, Tensor) else torch.tensor(float(norm))
            unasked += (("the gradient's norm", norm_of_all.detach()),)
        fused, devices = self._fused_optimizer, {value.device for _, value in unasked}
        if fused is not None and [device.type for device in devices] == ["cuda"]:  # one GPU
            self._answers = self._asked(unasked, fused)
        else:
            for name, value in unasked:
                self._refuse_not_finite(name, float(value), self.state.global_step)
        return norm

    def _maybe_log_save_evaluate(self, *args, **kwargs):
        control, state = self.control, self.state
        is_last = control.should_training_stop or state.global_step >= state.max_steps
        if is_last or control.should_log or control.should_save or control.should_evaluate:
            self._look()
        return super()._maybe_log_save_evaluate(*args, **kwargs)

    def _save(self, *args, **kwargs):
        self._look()
        return super()._save(*args, **kwargs)

    def _require_numbers(self, policy: Tensor, reference: Tensor, mask: Tensor) -> None:
        """Refuse log-ratios that are not finite: clipping would hide infinity."""
        log_ratio = torch.where(mask.bool(), (policy - reference).detach(), 0.0)
        self._require_finite("the log-ratio of a token", log_ratio)

    def _require_finite(self, name: str, values: Tensor) -> None:
        """Refuse values that are not finite: now, or by the step's update."""
        broken = torch.where(values.isfinite(), 0.0, values).sum()
        # DeepSpeed updates the weights within the backward pass; in evaluation there is no update.
        asks_later = self.model.training and not self.is_deepspeed_enabled
        if asks_later and values.device.type != "cpu":
            self._unasked += ((name, broken),)
        else:
            self._refuse_not_finite(name, broken.item(), self.state.global_step)

    @property
    def _fused_optimizer(self) -> Any:
        """The optimizer, if it can leave out an update by what is on the device alone; else None.

        It does so for float16's scaler. Processes would have to agree first, so there must be one.
        """
        optimizer = getattr(self.optimizer, "optimizer", self.optimizer)  # accelerate wraps it
        can_skip = getattr(optimizer, "_step_supports_amp_scaling", False)
        is_free = getattr(self.accelerator, "scaler", None) is None
        return optimizer if can_skip and is_free and self.accelerator.num_processes == 1 else None

    def _asked(self, questions: tuple[tuple[str, Tensor], ...], fused: Any) -> _Answers:
        """Let an optimizer update by finite numbers alone, and send the numbers to main memory.

        Args:
            questions: scalars, by name.
            fused: the optimizer.
        """
        values = torch.stack([value.float() for _, value in questions])
        fused.found_inf = (~values.isfinite().all()).float()
        sent = torch.empty(len(values), dtype=torch.float32, pin_memory=values.is_cuda)
        sent.copy_(values, non_blocking=True)
        are_here = torch.cuda.Event() if values.is_cuda else None
        if are_here:
            are_here.record()
        return _Answers(self.state.global_step, [name for name, _ in questions], sent, are_here)

    def _look(self) -> None:
        """Read what was asked at the last update."""
        answers, self._answers = self._answers, None
        if answers is None:
            return
        if answers.are_here:
            answers.are_here.synchronize()
        for name, value in zip(answers.names, answers.values.tolist(), strict=True):
            self._refuse_not_finite(name, value, answers.step)

    def _refuse_not_finite(self, name: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            raise ConfigError(
                f"after step {step}: {name} is {value}; nothing is saved: lower learning_rate, or "
                "look for broken weights and rows"
            )
