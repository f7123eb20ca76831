"""Windows: the batches of the next steps, which the policy scores while it is the reference."""

import sys
from collections import defaultdict, deque

from torch import Tensor

from humanline.method.reference import PolicyReference, Reference
from humanline.trainers.batches.lookahead import Lookahead
from humanline.trainers.batches.order import set_epoch
from humanline.trainers.options.trainer import TrainerOfTrl

# Keys of a batch that was prepared ahead of its step.
SCORES = "reference_scores"
_METRICS = "metrics_of_preparation"


class ReadsAhead(TrainerOfTrl):
    """Mixin before a TRL trainer: it may prepare batches, and score them, ahead of their step."""

    _reference: Reference | None = None
    # The reference, where that is the policy itself as long as it has not been updated.
    _cached: PolicyReference | None = None
    _lookahead: Lookahead | None = None

    @property
    def _prepares_steps(self) -> bool:
        """Whether a step needs all of its batches at its beginning."""
        return False

    @property
    def reference(self) -> Reference:
        """What the policy is compared with, where we keep it.

        Raises:
            ValueError: if TRL does, within a PEFT model.
        """
        if self._reference is None:
            raise ValueError(
                "TRL keeps the reference of this loss within the PEFT model, where it cannot "
                "follow the policy; set humanline=True, or train the whole model"
            )
        return self._reference

    def _init_training_state(self, *args, **kwargs):
        self.forget_what_is_ahead()
        return super()._init_training_state(*args, **kwargs)

    def _run_epoch(self, *args, **kwargs):
        if self.state.global_step >= self.state.max_steps:
            # Resumed from the last checkpoint: the Trainer would make one step too many.
            self.control.should_training_stop = True
            return
        loader, self._epoch = kwargs["train_dataloader"], kwargs["epoch"]
        set_epoch(loader, self._epoch)
        if self._cached and self._epoch == kwargs["epochs_trained"]:
            self._lookahead = Lookahead(loader, self.args.gradient_accumulation_steps)
        super()._run_epoch(*args, **kwargs)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        if self._lookahead:
            self._lookahead.begin(self._epoch, epoch_iterator)
            epoch_iterator = iter(self._lookahead.take(self._epoch))
        samples, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._present_batches = samples
        return samples, count

    def forget_what_is_ahead(self) -> None:
        """Drop the batches that were read ahead: training begins with the data again."""
        self._prepared_batches = 0  # of all steps, including those in `_ahead`
        self._ahead: deque[dict] = deque()  # batches that were prepared (and scored) ahead
        self._next_unscored = (0, 0)  # the step, and the batch within it, that come after `_ahead`

    def begin_step(self) -> None:
        """Prepare what a step needs before its first forward pass."""
        self.model.train()  # TRL prepares batches in this mode
        if self._cached and self._lookahead:
            self._score_ahead(self._cached, self._lookahead)
        elif self._prepares_steps:
            self._ahead.extend([self._prepared(batch) for batch in self._present_batches])

    def _prepare_inputs(self, inputs):
        if self.model.training and self._ahead:
            batch = self._ahead.popleft()
            metrics = self._metrics["train"]
            for name, values in batch.pop(_METRICS).items():
                is_total = name == "num_tokens"  # its last value counts, not the mean
                metrics[name] = values if is_total else metrics[name] + values
            return batch
        return self._prepare_batch(inputs)

    def _prepare_batch(self, inputs) -> dict:
        """Make a batch on the device from the dataloader's output, as TRL does."""
        batch = super()._prepare_inputs(inputs)
        self._prepared_batches += self.model.training
        return batch

    def _is_next_known(self) -> bool:
        """Say whether the next batch can be prepared before the step that trains on it."""
        return True

    @property
    def _interval(self) -> int:
        """Optimizer steps from one sync to the next; without syncs more than a run has."""
        return self.args.sync_interval or sys.maxsize

    def _scored(self, batches: list[dict]) -> list[dict[str, Tensor]]:
        """The reference's log-probabilities of batches, by name."""
        raise NotImplementedError

    def _score_ahead(self, reference: PolicyReference, lookahead: Lookahead) -> None:
        """At the beginning of a step, score all batches whose reference is the present policy.

        Weights change in updates alone, so a sync before this step's update can be made now. If
        some of the batches are not known yet, the policy's weights are kept for them.
        """
        step, interval = self.state.global_step, self._interval
        if self.args.sync_after_update and step and step % interval == 0:
            reference.sync()
        is_complete = self._score_until(self._last_of_window(step), lookahead)
        is_due = not self.args.sync_after_update and (step + 1) % interval == 0
        if is_due:
            reference.sync()
            is_complete = self._score_until(self._last_of_window(step + 1), lookahead)
        if not is_complete or self._may_evaluate_soon():
            reference.keep_snapshot()

    def sync_now(self) -> None:
        """Sync at the method's moment, unless `_score_ahead` has done it already."""
        if not self._cached:
            self.reference.sync(self.args.sync_alpha)

    def _may_evaluate_soon(self) -> bool:
        """Say whether an evaluation may need the reference before the next sync."""
        end = self.state.global_step + self._interval
        if end >= self.state.max_steps:  # no sync follows, and an evaluation may
            return True
        if self.args.eval_on_start:  # a resumed run will evaluate at its start
            return True
        if self.eval_dataset is None:
            return False
        if self.args.eval_strategy != "steps":  # evaluation by epochs, or by hand
            return True
        soon = range(self.state.global_step + 1, end + 1)
        return any(step % self.state.eval_steps == 0 for step in soon)

    def _last_of_window(self, step: int) -> int:
        """Find the last step that has the same reference as `step`."""
        interval = self._interval
        return min(step - step % interval + interval, self.state.max_steps) - 1

    def _score_until(self, last: int, lookahead: Lookahead) -> bool:
        """Prepare and score the batches up to step `last`; return false if some are unknown."""
        prepared: list[dict] = []
        is_complete = self._prepare_until(last, lookahead, prepared)
        scores = self._scored(prepared) if prepared else []
        self._ahead += [b | {SCORES: s} for b, s in zip(prepared, scores, strict=True)]
        return is_complete

    def _prepare_until(self, last: int, lookahead: Lookahead, prepared: list[dict]) -> bool:
        """Append the batches up to step `last` to `prepared`; return false if some are unknown."""
        present = self.state.global_step
        first, index = self._next_unscored
        for step in range(first, last + 1):
            is_ahead = step > present
            if is_ahead and not self._is_next_known():
                return False
            raw = lookahead.peek(step - present - 1) if is_ahead else self._present_batches
            for batch in raw[index:]:
                if is_ahead and not self._is_next_known():
                    self._next_unscored = (step, index)
                    return False
                prepared.append(self._prepared(batch))
                index += 1
            self._next_unscored, index = (step + 1, 0), 0
        return True

    def _prepared(self, batch) -> dict:
        """Prepare a batch, and keep the metrics of its preparation with it."""
        metrics, self._metrics["train"] = self._metrics["train"], defaultdict(list)
        prepared = dict(self._prepare_batch(batch))
        held, self._metrics["train"] = self._metrics["train"], metrics
        return prepared | {_METRICS: dict(held)}
