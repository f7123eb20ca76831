"""Windows: the batches of the steps to come, scored by the policy while it is the reference."""

import sys
from collections import defaultdict, deque

from torch import Tensor

from humanline.method.reference import PolicyReference, Reference
from humanline.trainers.batches.lookahead import Lookahead
from humanline.trainers.batches.order import set_epoch
from humanline.trainers.options.trainer import TrainerOfTrl

# Keys of a batch that was prepared before its step.
SCORES = "reference_scores"
_METRICS = "metrics_of_preparation"


class ReadsAhead(TrainerOfTrl):
    """Mixin before a TRL trainer: batches may be prepared, and scored, before their step."""

    _reference: Reference | None = None
    # The reference, where that is the policy itself as long as it has not been updated.
    _cached: PolicyReference | None = None
    _lookahead: Lookahead | None = None

    @property
    def _prepares_steps(self) -> bool:
        """Whether a step begins with all of its batches, for what is counted over them."""
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
            # Resumed from its last checkpoint: the Trainer would make one step too many.
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
        self._present = samples
        return samples, count

    def forget_what_is_ahead(self) -> None:
        """Begin anew with the data."""
        self._prepared_batches = 0  # of all steps; some of them may be ahead
        self._ahead: deque[dict] = deque()  # prepared, and scored if cached, before their step
        self._next_unscored = (0, 0)  # step, and batch of that step, that `_ahead` lacks

    def begin_step(self) -> None:
        """Prepare what a step needs before its first forward pass."""
        self.model.train()  # as TRL prepares batches
        if self._cached and self._lookahead:
            self._score_ahead(self._cached, self._lookahead)
        elif self._prepares_steps:
            self._ahead.extend([self._prepared(batch) for batch in self._present])

    def _prepare_inputs(self, inputs):
        if self.model.training and self._ahead:
            batch = self._ahead.popleft()
            metrics = self._metrics["train"]
            for name, values in batch.pop(_METRICS).items():
                is_total = name == "num_tokens"  # of which the last counts, not the mean
                metrics[name] = values if is_total else metrics[name] + values
            return batch
        return self._prepare_batch(inputs)

    def _prepare_batch(self, inputs) -> dict:
        """What TRL makes of what the dataloader gives: a batch on the device."""
        batch = super()._prepare_inputs(inputs)
        self._prepared_batches += self.model.training
        return batch

    def _is_next_known(self) -> bool:
        """Whether the next batch to prepare can be prepared before the step that trains on it."""
        return True

    @property
    def _interval(self) -> int:
        """Optimizer steps from one sync to the next; without syncs more than a run has."""
        return self.args.sync_interval or sys.maxsize

    def _reference_scores(self, inputs: dict) -> dict[str, Tensor]:
        """The reference's log-probabilities of a batch, by name."""
        raise NotImplementedError

    def _score_ahead(self, reference: PolicyReference, lookahead: Lookahead) -> None:
        """At the beginning of a step, score all that has the policy for its reference now.

        Weights change in updates alone, so a sync before this step's update is one with the
        policy as it stands now. What it scores is known, or else its weights are kept.
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
        """Sync at the moment that the method says, unless it was foreseen."""
        if not self._cached:
            self.reference.sync(self.args.sync_alpha)

    def _may_evaluate_soon(self) -> bool:
        """Whether the reference may be asked to score other batches before the next sync."""
        end = self.state.global_step + self._interval
        if end >= self.state.max_steps:  # there is none, and after training one may evaluate
            return True
        if self.args.eval_on_start:  # as a resumed run will
            return True
        if self.eval_dataset is None:
            return False
        if self.args.eval_strategy != "steps":  # by epochs, or by hand
            return True
        soon = range(self.state.global_step + 1, end + 1)
        return any(step % self.state.eval_steps == 0 for step in soon)

    def _last_of_window(self, step: int) -> int:
        """The last step that has the same reference as `step`."""
        interval = self._interval
        return min(step - step % interval + interval, self.state.max_steps) - 1

    def _score_until(self, last: int, lookahead: Lookahead) -> bool:
        """Prepare and score the batches up to step `last`; false if some are not known yet."""
        present = self.state.global_step
        first, index = self._next_unscored
        for step in range(first, last + 1):
            is_ahead = step > present
            if is_ahead and not self._is_next_known():
                return False
            raw = lookahead.peek(step - present - 1) if is_ahead else self._present
            prepared = []
            for batch in raw[index:]:
                if is_ahead and not self._is_next_known():
                    break
                prepared.append(self._prepared(batch))
            with self.reference.scoring():  # once, for weights may have to be swapped
                for batch in prepared:
                    self._ahead.append(batch | {SCORES: self._reference_scores(batch)})
            index += len(prepared)
            if index < len(raw):
                self._next_unscored = (step, index)
                return False
            self._next_unscored, index = (step + 1, 0), 0
        return True

    def _prepared(self, batch) -> dict:
        """A prepared batch, and the metrics of preparing it."""
        metrics, self._metrics["train"] = self._metrics["train"], defaultdict(list)
        prepared = dict(self._prepare_batch(batch))
        held, self._metrics["train"] = self._metrics["train"], metrics
        return prepared | {_METRICS: dict(held)}
