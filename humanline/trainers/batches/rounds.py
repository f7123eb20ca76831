"""Online training in rounds: sample, label, train; then again with the new policy.

TRL's DPO and KTO trainers read a dataset. `RoundsTrainer` replaces its batches by those of the
present round, made just in time: no batch is sampled before the update that precedes its round.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from accelerate.utils import gather_object
from datasets import Dataset

from humanline.files.json_files import read_json, write_json
from humanline.trainers.checkpoints import dataset_facts
from humanline.trainers.humanline_trainer import HumanlineTrainer
from humanline.trainers.rows.preferences import best_versus_worst
from humanline.trainers.rows.scores import numbers


@dataclass
class Rounds:
    """How to sample and label.

    Args:
        prompts: conversational prompts; round r takes the r-th slice, starting over at the end, and
            of several processes each a part of it.
        sample: (trainer, prompts, draw) -> for each prompt ``{"prompt_ids", "completion_ids"}``,
            from the present policy; `draw` numbers the calls of all processes.
        score: (prompts, completions as text) -> scores, for flat lists of equal length.
        steps: optimizer steps per round.
        directory: where rounds are kept, so that a resumed run trains on what it had sampled.
        min_score_difference: that a pair's chosen completion must have over its rejected one.
    """

    prompts: list
    sample: Callable
    score: Callable
    steps: int
    directory: Path
    min_score_difference: float


def refuse_other_references(rounds: Rounds | None, args) -> None:
    """Refuse options by which TRL would keep a reference that rounds move.

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

    rounds: Rounds | None
    placeholder_row: ClassVar[dict[str, Any]]  # a tokenized row, as short as one can be
    examples_per_pair = 1
    _round: tuple[int, list[dict]] = (-1, [])

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
        """A tokenized training set of the right length, whose batches the rounds replace."""
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
        """Round of the next batch to prepare, and its place in the round."""
        batches = rounds.steps * self.args.gradient_accumulation_steps
        return divmod(self._prepared_batches, batches)

    def forget_what_is_ahead(self):
        super().forget_what_is_ahead()
        self._round = (-1, [])

    def _next_batch(self, rounds: Rounds) -> dict:
        number, index = self._next_place(rounds)
        if number != self._round[0]:
            if index == 0 and not self.args.humanline:
                # The reference of plain online training is the policy that samples the round, as
                # in the authors' code, where each round starts from the last one's checkpoint.
                self.reference.sync()
            self._round = (number, self._examples_of(rounds, number))
        size = self._train_batch_size
        return self.data_collator(self._round[1][index * size : (index + 1) * size])

    def _facts_of_data(self) -> dict:
        if self.rounds is None:
            return super()._facts_of_data()
        rounds = self.rounds
        facts = {
            "steps of a round": rounds.steps,
            "min_score_difference": rounds.min_score_difference,
        }
        return facts | dataset_facts(Dataset.from_list([{"prompt": p} for p in rounds.prompts]))

    def _run_epoch(self, *args, **kwargs):
        if self.rounds is not None:
            self._forget_later(self.rounds)
        super()._run_epoch(*args, **kwargs)

    def _forget_later(self, rounds: Rounds) -> None:
        """Delete rounds that are not begun: they may be another run's, and are sampled anew."""
        number, index = self._next_place(rounds)
        for path in rounds.directory.glob(f"round-*{self._part}.json"):
            later = path.name.removeprefix("round-").removesuffix(f"{self._part}.json")
            if later.isdigit() and int(later) >= number + (index > 0):
                path.unlink()

    def _examples_of(self, rounds: Rounds, number: int) -> list[dict]:
        """Sample a round, or read what an interrupted run had sampled; in the order of training."""
        started = time.perf_counter()
        path = rounds.directory / f"round-{number:04d}{self._part}.json"
        # By all processes or by none: a sharded policy samples only where all do.
        if all(gather_object([path.exists()])):
            return read_json(path)
        examples = self._sample_round(rounds, number)
        write_json(path, examples)
        self.sampling_seconds += time.perf_counter() - started
        return examples

    @property
    def _part(self) -> str:
        """What tells this process's part of a round from others'."""
        args = self.args
        return f"-{args.process_index + 1}of{args.world_size}" if args.world_size > 1 else ""

    def _sample_round(self, rounds: Rounds, number: int) -> list[dict]:
        needed = self._train_batch_size * self.args.gradient_accumulation_steps * rounds.steps
        pairs_needed = needed // self.examples_per_pair
        draw = number * self.args.world_size + self.args.process_index
        first = draw * pairs_needed
        prompts = [rounds.prompts[(first + i) % len(rounds.prompts)] for i in range(pairs_needed)]
        groups = rounds.sample(self, prompts, draw)
        flat = [ids for group in groups for ids in group["completion_ids"]]
        self.sampled_tokens += sum(map(len, flat))
        repeated = [p for p, g in zip(prompts, groups, strict=True) for _ in g["completion_ids"]]
        texts = self.processing_class.batch_decode(flat, skip_special_tokens=True)
        scores = iter(numbers(rounds.score(repeated, texts), repeated, "the rounds' score"))
        pairs = []
        for group in groups:
            ids = group["completion_ids"]
            pair = best_versus_worst([next(scores) for _ in ids], rounds.min_score_difference)
            if pair:
                best, worst = pair
                pairs.append((group["prompt_ids"], ids[best], ids[worst]))
        return self._own_part(rounds, gather_object(pairs), number)

    def _own_part(self, rounds: Rounds, pairs: list[tuple], number: int) -> list[dict]:
        """This process's part of each batch of a round, of the pairs of all processes.

        Prompts whose completions all score alike give no pair: the first pairs stand in.
        """
        if not pairs:
            raise RuntimeError(f"round {number}: no prompt has completions of different scores")
        size, processes = self._train_batch_size, self.args.world_size
        batch = size * processes
        count = batch * self.args.gradient_accumulation_steps * rounds.steps
        pairs = [pairs[i % len(pairs)] for i in range(count // self.examples_per_pair)]
        examples = self.round_examples(pairs, batch)
        first = self.args.process_index * size
        return [
            example
            for start in range(first, count, batch)
            for example in examples[start : start + size]
        ]
