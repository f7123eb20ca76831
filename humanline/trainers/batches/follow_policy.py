"""The reference follows the policy: when it is synced, among the steps of training."""

from typing import TYPE_CHECKING

from transformers import TrainerCallback

if TYPE_CHECKING:
    from humanline.trainers.shared.humanline_trainer import HumanlineTrainer


class FollowPolicy(TrainerCallback):
    """Syncs a trainer's reference every `sync_interval` optimizer steps.

    The Trainer calls `on_pre_optimizer_step` after gradient clipping and before the update. So
    after the step of a sync the reference is the policy *before* that step. At an interval of one,
    a copy made after the update would make every log-ratio zero.
    """

    def __init__(self, trainer: "HumanlineTrainer"):
        self._trainer = trainer
        self._has_trained = False

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step == 0 and self._has_trained and self._moves:
            self._trainer.reference.sync()  # a second `train()` begins as the first did

    def on_train_end(self, args, state, control, **kwargs):
        self._has_trained = True

    def on_step_begin(self, args, state, control, **kwargs):
        self._trainer.begin_step()

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if not args.sync_after_update:
            self._sync(args, state)

    def on_optimizer_step(self, args, state, control, **kwargs):  # after the update
        if self._trainer._cached:
            self._trainer._cached.forget_policy()
        if args.sync_after_update:
            self._sync(args, state)

    @property
    def _moves(self) -> bool:
        return bool(self._trainer.args.humanline and self._trainer.args.sync_interval)

    def _sync(self, args, state) -> None:
        if self._moves and (state.global_step + 1) % args.sync_interval == 0:
            self._trainer.sync_now()
