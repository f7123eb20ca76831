"""GRPO's rollouts: how their rows become the batches of steps, on any number of processes."""

from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from torch import Tensor
from trl import GRPOTrainer
from trl.trainer.utils import (
    shuffle_sequence_dict,
    split_pixel_values_by_grid,
    split_tensor_dict,
    unsplit_pixel_values_by_grid,
)

from humanline.trainers.batches.order import (
    RepeatedRows,
    RolloutStream,
    RowsOnce,
    rows_of,
    share_out,
)
from humanline.trainers.options.grpo import HumanlineGRPOConfig
from humanline.trainers.shared.humanline_trainer import HumanlineTrainer, load_on

_OF_COMPLETIONS = (
    *("completion_ids", "completion_mask", "tool_mask", "importance_sampling_ratio"),
    *("old_per_token_logps", "ref_per_token_logps", "sampling_per_token_logps", "advantages"),
)  # (B, T), or (B, 1); TRL's advantages are (B,)
_KINDS_OF_TOKENS = {
    "token_type_ids",
    "mm_token_type_ids",
}  # of prompts and completions in one tensor


class Rollouts(HumanlineTrainer, GRPOTrainer):
    """A trainer of GRPO that makes the batches of steps from rollouts."""

    args: HumanlineGRPOConfig
    num_generations: int
    num_generations_eval: int
    chat_template_kwargs: dict[str, Any]
    is_offline: bool  # on stored groups
    _batches: Sequence[dict] = ()  # of the present rollout
    _beside: torch.cuda.Stream | None = None

    def get_train_dataloader(self):
        dataset = self.train_dataset
        if isinstance(dataset, IterableDataset):
            stream = self._rollouts_of(dataset)
            return self._get_dataloader(stream, "Training", batch_size=1, is_training=True)
        # With workers the rows of steps would be fetched early, in another process.
        if isinstance(dataset, Dataset) and not self.args.dataloader_num_workers:
            self.train_dataset = RowsOnce(self._remove_unused_columns(dataset, "Training"))
        try:
            return super().get_train_dataloader()
        finally:
            self.train_dataset = dataset

    def _rollouts_of(self, dataset: IterableDataset) -> RolloutStream:
        args = self.args
        return RolloutStream(
            dataset.shuffle(seed=args.seed) if self.shuffle_dataset else dataset,
            prompts=args.generation_batch_size // self.num_generations,
            times=self.num_generations,
            steps=self._batches_per_rollout,
            processes=args.world_size,
            choose=self._get_collator_with_removed_columns(list, description="Training"),
        )

    def _get_dataloader(
        self,
        dataset,
        description,
        batch_size,
        sampler_fn=None,
        is_training=False,
        dataloader_key=None,
    ):
        if isinstance(dataset, Dataset) and not is_training:
            dataset = self._remove_unused_columns(dataset, description)
            dataset = RepeatedRows(dataset, self.num_generations_eval)
        options = description, batch_size, sampler_fn, is_training, dataloader_key
        return super()._get_dataloader(dataset, *options)

    def prediction_step(self, *args, **kwargs):
        """Evaluate a batch as TRL does, but average the loss over all processes."""
        loss, *rest = super().prediction_step(*args, **kwargs)
        return self.accelerator.reduce(loss, reduction="mean"), *rest

    def get_batch_samples(self, *args):
        """Give the Trainer, and who overrides `training_step`, the rows as TRL's loader does."""
        samples, count = super().get_batch_samples(*args)
        return list(map(rows_of, samples)), count

    @property
    def _prepares_steps(self) -> bool:
        return self._uses_reference

    def begin_step(self):
        self._step = 0  # TRL counts with it in the metric of a step's time
        super().begin_step()
        if self.loss_type in ("dapo", "cispo", "vespo"):
            self._count_tokens(list(self._ahead)[: len(self._present_batches)])

    def _count_tokens(self, of_step: list[dict]) -> None:
        """Write into a step's batches how many tokens they have together, on all processes."""
        tokens = sum(policy_token_mask(batch).sum() for batch in of_step)
        tokens = self.accelerator.reduce(tokens, reduction="sum")
        for batch in of_step:
            batch["num_items_in_step"] = tokens

    def _prepare_batch(self, inputs):
        """Make a batch as TRL does, from our own rollouts and by our own count of batches.

        TRL counts the batches that were trained on. Ours may be prepared ahead of their step, and
        the count continues in a resumed run.
        """
        if not self.model.training:
            return super()._prepare_batch(inputs)
        place = self._prepared_batches
        if place % self._batches_per_rollout == 0:
            self._batches = ()  # free the memory for the next rollout
            with self._beside_the_device():
                self._batches = self._rollout(inputs)
        self._prepared_batches += 1
        return dict(self._batches[place % self.args.steps_per_generation])

    @property
    def _batches_per_rollout(self) -> int:
        return self.args.steps_per_generation * self.num_iterations

    @contextmanager
    def _beside_the_device(self):
        """Make a stored rollout while a GPU goes on with what it has to do.

        TRL reads some twenty numbers of each rollout. They depend on nothing that the GPU computes,
        so in a stream of their own nobody waits for it.
        """
        if (
            not self.is_offline
            or self.accelerator.device.type != "cuda"
            or self.args.world_size > 1
        ):
            yield
            return
        main, beside = torch.cuda.current_stream(), self._beside or torch.cuda.Stream()
        self._beside = beside
        with torch.cuda.stream(beside):
            yield
        main.wait_stream(beside)
        for batch in self._batches:
            for value in batch.values():
                if isinstance(value, Tensor) and value.is_cuda:
                    value.record_stream(main)  # else its memory might be used again too early

    def _rollout(self, inputs) -> list[dict]:
        """Make the batches of a new rollout."""
        steps = self.args.steps_per_generation
        rollout: dict[str, Any] = self._generate_and_score_completions(inputs)
        with self._seeded() if self.is_offline else nullcontext():
            if self._is_vlm:
                rows: dict[str, Any] = split_pixel_values_by_grid(rollout)
                rollout = shuffle_sequence_dict(rows)
            else:
                rollout = share_out(rollout, self.accelerator, steps, self._tokenizer.pad_token_id)
        batches = _split(rollout, steps)
        return batches if self.pad_to_multiple_of else [_without_end(batch) for batch in batches]

    @contextmanager
    def _seeded(self):
        """Shuffle a stored rollout in the same order whenever it is read."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.args.seed + self._prepared_batches // self._batches_per_rollout)
            yield

    def _is_next_known(self) -> bool:
        is_sampled = self.is_offline or self._prepared_batches % self._batches_per_rollout != 0
        return is_sampled and super()._is_next_known()

    def _write_beside(self, folder):
        """Save an unfinished rollout, too: the old policy that sampled it is gone."""
        super()._write_beside(folder)
        if self._prepared_batches % self._batches_per_rollout:
            torch.save(self._batches, folder / self._rollout_file)

    def _load_beside(self, checkpoint):
        super()._load_beside(checkpoint)
        path = checkpoint / self._rollout_file
        if path.exists():
            self._batches = load_on(self.accelerator.device, path)

    @property
    def _rollout_file(self) -> str:
        return f"rollout-{self.accelerator.process_index}.pt"


def _split(rollout: dict[str, Any], steps: int) -> list[dict]:
    """The batches that a rollout is for."""
    batches: list[dict[str, Any]] = [*split_tensor_dict(rollout, steps)]
    return [unsplit_pixel_values_by_grid(batch) for batch in batches]


def _without_end(batch: dict[str, Any]) -> dict[str, Any]:
    """Cut the end that is padding in all rows: TRL pads to the rollout's longest completion."""
    if _KINDS_OF_TOKENS & batch.keys():
        return batch
    used = batch["completion_mask"].any(0).nonzero()
    length = int(used[-1]) + 1 if len(used) else 1
    of_tokens = {name: batch.get(name) for name in _OF_COMPLETIONS}
    cut = {name: x[:, :length] for name, x in of_tokens.items() if x is not None and x.ndim > 1}
    return batch | cut


def policy_token_mask(inputs: dict) -> Tensor:
    """Find the completion's tokens that the policy has written, not a tool.

    Returns:
        A mask (B, T), non-zero on these tokens.
    """
    mask = inputs["completion_mask"]
    return mask * inputs["tool_mask"] if "tool_mask" in inputs else mask
