"""Online training in rounds: sample, label, train; then again with the new policy.

TRL's DPO and KTO trainers read a dataset. `RoundsTrainer` replaces its batches by those of the
present round. A round is sampled after the last update of the round before.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from accelerate.utils import gather_object, is_peft_model
from datasets import Dataset

from humanline.files.json_files import read_json, write_json
from humanline.method.reference import AdapterReference
from humanline.trainers.options.humanline import HumanlineOptions, require_config
from humanline.trainers.rows.preferences import best_versus_worst
from humanline.trainers.rows.scores import finite_numbers
from humanline.trainers.rows.tokens import for_each_dataset, require_rows
from humanline.trainers.shared.checkpoints import dataset_facts
from humanline.trainers.shared.humanline_trainer import HumanlineTrainer, only_the_policy
from humanline.trainers.shared.metrics import metrics_of

_NOTHING = "nothing_to_learn"  # marks a batch of a round without pairs


@dataclass
class Rounds:
    """How to sample and label the rounds of online training.

    Args:
        prompts: conversational prompts. Round r takes the r-th slice and begins again at the end;
            each process takes a part of the slice.
        sample: (trainer, prompts, draw) -> for each prompt ``{"prompt_ids", "completion_ids"}``,
            sampled from the present policy. `draw` is the number of the call, over all processes.
        score: (prompts, completions as text) -> scores, for flat lists of equal length.
        steps: optimizer steps per round.
        directory: the folder of the rounds' files; a resumed run reads what it had sampled.
        min_score_difference: least difference of scores between a pair's two completions.
        last: the number of the last round, which lasts to the end of training. None: all rounds
            are of equal length.
    """

    prompts: list
    sample: Callable
    score: Callable
    steps: int
    directory: Path
    min_score_difference: float
    last: int | None = None


def refuse_other_references(rounds: Rounds | None, args) -> None:
    """Refuse options of TRL that keep a reference of their own: rounds move the reference.

    Raises:
        ValueError: naming the option.
    """
    for name in ("precompute_ref_log_probs", "sync_ref_model"):
        if rounds is not None and getattr(args, name):
            raise ValueError(
                f"{name}=True: with rounds the reference is the policy that samples a round; set "
                "it to False"
            )


class RoundsTrainer(HumanlineTrainer):
    """Mixin before a TRL trainer of preferences. Without `rounds` it changes nothing."""

    config_class: ClassVar[type[HumanlineOptions]]
    trl_module: ClassVar[ModuleType]  # which has TRL's trainer
    rounds: Rounds | None
    placeholder_row: ClassVar[dict[str, Any]]  # a tokenized row, as short as one can be
    examples_per_pair = 1
    _round: tuple[int, list[dict]] = (-1, [])

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
        args = require_config(args, self.config_class, model)
        if self.loss_is_ours:
            args.refuse_other_losses(type(self).__name__)
        refuse_other_references(rounds, args)
        require_rows(train_dataset, "train set")
        for_each_dataset(eval_dataset, require_rows, "eval set")
        data = data_collator, train_dataset, eval_dataset
        with only_the_policy(self.trl_module, model, args.humanline or self.loss_is_ours):
            super().__init__(model, ref_model, args, *data, *rest, **kwargs)
        self._start_humanline(ref_model)

    def _make_reference(self, given):
        is_trls = self.rounds is not None and not self._uses_reference and given is None
        if is_trls and is_peft_model(self.model):
            # TRL's loss takes an adapter of this name for the reference, if there is one. It can
            # follow the policy; the model without an adapter, which TRL else takes, could not.
            return AdapterReference(self.model)
        return super()._make_reference(given)

    @property
    def _reference_moves(self) -> bool:
        return self.rounds is not None or super()._reference_moves

    @staticmethod
    def round_examples(pairs: list[tuple], batch_size: int) -> list[dict]:
        """Turn pairs of token ids, (prompt, chosen, rejected), into examples for TRL's collator.

        Args:
            batch_size: examples of a batch, over all processes.
        """
        raise NotImplementedError

    @classmethod
    def placeholder(cls, args) -> Dataset:
        """Make a tokenized training set of the right length; the rounds replace its batches."""
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
        return Dataset.from_list([cls.placeholder_row] * (args.max_steps * batch * args.world_size))

    def _prepare_dataset(self, dataset, *args, **kwargs):
        if self.rounds is not None and "prompt_ids" in dataset.column_names:
            return dataset
        return super()._prepare_dataset(dataset, *args, **kwargs)

    def _prepare_batch(self, inputs):
        if self.rounds is not None and self.model.training:
            inputs = self._next_batch(self.rounds)
        return super()._prepare_batch(inputs)

    def _is_next_known(self) -> bool:
        if self.rounds is None:
            return super()._is_next_known()
        return self._next_place(self.rounds)[0] == self._round[0]

    def _next_place(self, rounds: Rounds) -> tuple[int, int]:
        """Compute the round of the next batch, and the batch's place in it."""
        batches = rounds.steps * self.args.gradient_accumulation_steps
        number = self._prepared_batches // batches
        if rounds.last is not None:
            number = min(number, rounds.last)
        return number, self._prepared_batches - number * batches

    def _steps_of(self, rounds: Rounds, number: int) -> int:
        """Count the optimizer steps of a round; the last one has all that are left."""
        if number != rounds.last:
            return rounds.steps
        return self.args.max_steps - number * rounds.steps

    def forget_what_is_ahead(self):
        super().forget_what_is_ahead()
        self._round = (-1, [])

    def _write_beside(self, folder):
        """Save the round that is in use, too: the policy that sampled it is gone."""
        super()._write_beside(folder)
        is_in_use = self.rounds is not None and self._next_place(self.rounds)[1] > 0
        if is_in_use and not self.args.save_only_model:
            torch.save(self._round, folder / self._round_file)

    def _load_beside(self, checkpoint):
        super()._load_beside(checkpoint)
        path = checkpoint / self._round_file
        if path.exists():
            self._round = torch.load(path, weights_only=True)

    @property
    def _round_file(self) -> str:
        return f"round-{self.args.process_index}.pt"

    def _next_batch(self, rounds: Rounds) -> dict:
        number, index = self._next_place(rounds)
        if number != self._round[0]:
            if index == 0 and not self.args.humanline:
                # The reference of plain online training is the policy that samples the round. The
                # authors' code does the same: it starts each round from the last checkpoint.
                self.reference.sync()
            self._round = (number, self._examples_of(rounds, number))
        size = self._train_batch_size
        examples = self._round[1][index * size : (index + 1) * size]
        batch = self.data_collator(examples or [self.placeholder_row] * size)
        return batch if examples else batch | {_NOTHING: torch.tensor(True)}

    def compute_loss(self, model, inputs, *args, **kwargs):
        """Compute the loss; of a round without pairs it is 0, as GRPO's is of equal rewards."""
        result = super().compute_loss(model, inputs, *args, **kwargs)
        if _NOTHING not in inputs:
            return result
        return (0 * result[0], *result[1:]) if isinstance(result, tuple) else 0 * result

    def _facts_of_data(self) -> dict:
        if self.rounds is None:
            return super()._facts_of_data()
        rounds = self.rounds
        facts = {
            "steps of a round": rounds.steps,
            "min_score_difference": rounds.min_score_difference,
            "last round": rounds.last,
        }
        return facts | dataset_facts(Dataset.from_list([{"prompt": p} for p in rounds.prompts]))

    def _run_epoch(self, *args, **kwargs):
        if self.rounds is not None:
            self._forget_later(self.rounds)
        super()._run_epoch(*args, **kwargs)

    def _forget_later(self, rounds: Rounds) -> None:
        """Delete the files of rounds that have not begun: they may belong to another run."""
        number, index = self._next_place(rounds)
        for path in rounds.directory.glob(f"round-*{self._part}.json"):
            later = path.name.removeprefix("round-").removesuffix(f"{self._part}.json")
            if later.isdigit() and int(later) >= number + (index > 0):
                path.unlink()

    def _examples_of(self, rounds: Rounds, number: int) -> list[dict]:
        """Sample a round's examples, or read those that an interrupted run had sampled."""
        started = time.perf_counter()
        path = rounds.directory / f"round-{number:04d}{self._part}.json"
        # All processes sample, or none: a sharded policy needs all of them.
        if all(gather_object([path.exists()])):
            return read_json(path)
        examples = self._sample_round(rounds, number)
        write_json(path, examples)
        self.sampling_seconds += time.perf_counter() - started
        return examples

    @property
    def _part(self) -> str:
        """The end of this process's file name, which tells its part of a round from the others."""
        args = self.args
        return f"-{args.process_index + 1}of{args.world_size}" if args.world_size > 1 else ""

    def _sample_round(self, rounds: Rounds, number: int) -> list[dict]:
        batch = self._train_batch_size * self.args.gradient_accumulation_steps
        of_steps = lambda steps: batch * steps // self.examples_per_pair  # noqa: E731
        pairs_needed = of_steps(self._steps_of(rounds, number))
        processes, process = self.args.world_size, self.args.process_index
        draw = number * processes + process
        first = number * processes * of_steps(rounds.steps) + process * pairs_needed
        prompts = [rounds.prompts[(first + i) % len(rounds.prompts)] for i in range(pairs_needed)]
        groups = rounds.sample(self, prompts, draw)
        flat = [ids for group in groups for ids in group["completion_ids"]]
        self.sampled_tokens += sum(map(len, flat))
        repeated = [p for p, g in zip(prompts, groups, strict=True) for _ in g["completion_ids"]]
        texts = self.processing_class.batch_decode(flat, skip_special_tokens=True)
        scores = iter(finite_numbers(rounds.score(repeated, texts), repeated, "the rounds' score"))
        pairs = []
        for group in groups:
            ids = group["completion_ids"]
            pair = best_versus_worst([next(scores) for _ in ids], rounds.min_score_difference)
            if pair:
                best, worst = pair
                pairs.append((group["prompt_ids"], ids[best], ids[worst]))
        return self._own_part(rounds, gather_object(pairs), number)

    def _own_part(self, rounds: Rounds, pairs: list[tuple], number: int) -> list[dict]:
        """Take this process's part of each batch of a round from the pairs of all processes.

        A prompt whose completions have equal scores gives no pair. The first pairs fill the gaps.
        If no prompt gives one, the round has no examples, and its steps have no loss: a policy that
        has collapsed cannot learn from itself.

        Raises:
            RuntimeError: if the first round has no pair, where the score is at fault.
        """
        size, processes = self._train_batch_size, self.args.world_size
        batch = size * processes
        steps = self._steps_of(rounds, number)
        count = batch * self.args.gradient_accumulation_steps * steps
        prompts = count // self.examples_per_pair
        metrics_of(self)["frac_reward_zero_std"].append(1 - len(pairs) / prompts)
        if not pairs:
            line = f"round {number}: no prompt has completions of different scores"
            if number == 0:
                raise RuntimeError(f"{line}; look at the score, which tells no two of them apart")
            warnings.warn(f"{line}; its steps train on nothing", stacklevel=2)
            return []
        pairs = [pairs[i % len(pairs)] for i in range(prompts)]
        examples = self.round_examples(pairs, batch)
        first = self.args.process_index * size
        return [
            example
            for start in range(first, count, batch)
            for example in examples[start : start + size]
        ]
