"""A checkpoint is there whole or not at all, and is resumed by the run that it is of."""

import json
import resource
import shutil
import signal

import pytest
import torch
from combinations import Combination
from tiny import OBJECTIVES, equal, make_trainer, rows, weights
from transformers import AutoModelForCausalLM

from humanline.trainers.shared import humanline_trainer
from humanline.trainers.shared.manifest import read_manifest, write_manifest

SAVING = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "sync_interval": 3}


@pytest.fixture
def build(model_folder, tokenizer, groups, tmp_path):
    def build(objective="dpo", dataset=None, **options):
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        dataset = rows(objective, groups) if dataset is None else dataset
        return make_trainer(objective, model, tokenizer, dataset, tmp_path, **SAVING | options)

    return build


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.startswith(("checkpoint", "."))}


class TestWhole:
    @pytest.mark.parametrize("reference", ["cached", "model"])
    def test_a_full_disk_leaves_the_old_checkpoint(self, reference, build, tmp_path, monkeypatch):
        """One may stay; while the second one's reference is written, no room is left."""
        trainer = build(reference=reference, save_total_limit=1)
        save = humanline_trainer.save_reference

        def save_once(*args):
            if trainer.state.global_step > 2:
                raise OSError(28, "No space left on device")
            save(*args)

        monkeypatch.setattr(humanline_trainer, "save_reference", save_once)
        with pytest.raises(OSError, match=r"checkpoint-4 could not.*No space left.*checkpoint-2"):
            trainer.train()
        assert names(tmp_path) == {"checkpoint-2"}
        monkeypatch.undo()
        resumed, plain = build(reference=reference), build(reference=reference)
        resumed.train(resume_from_checkpoint=True)
        plain.train()
        assert equal(weights(resumed.model), weights(plain.model))

    def test_no_file_may_grow_as_large_as_the_optimizers(self, build, tmp_path):
        """As a disk that fills up within the Trainer's own files, whatever their order."""
        trainer = build(save_total_limit=1)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
            with pytest.raises(OSError, match=r"checkpoint-2 could not be written.*: none"):
                trainer.train()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert names(tmp_path) == set()

    def test_what_a_killed_run_had_begun_to_write_is_in_nobodys_way(self, build, tmp_path):
        begun = tmp_path / ".incomplete" / "checkpoint-4"
        begun.mkdir(parents=True)
        (begun / "optimizer.pt").write_bytes(b"half")
        build().train()
        assert names(tmp_path) == {"checkpoint-2", "checkpoint-4"}

    def test_one_of_the_same_name_is_replaced_and_the_newest_stays(self, build, tmp_path):
        build().train()
        (tmp_path / "checkpoint-2" / "left-over").touch()
        build(save_total_limit=1, max_steps=2).train()
        assert names(tmp_path) == {"checkpoint-2"}
        assert not (tmp_path / "checkpoint-2" / "left-over").exists()

    def test_the_best_one_is_known_by_its_place(self, build, groups, tmp_path):
        trainer = build(
            eval_strategy="steps", eval_steps=2, load_best_model_at_end=True, save_total_limit=1,
            extra={"eval_dataset": rows("dpo", groups).select(range(8))},
        )  # fmt: skip
        trainer.train()
        best = tmp_path / f"checkpoint-{trainer.state.best_global_step}"
        assert trainer.state.best_model_checkpoint == str(best) and best.is_dir()
        for folder in tmp_path.glob("checkpoint-*"):
            state = json.loads((folder / "trainer_state.json").read_text())
            assert ".incomplete" not in str(state["best_model_checkpoint"])

    @pytest.fixture
    def judged(self, build, groups, monkeypatch):
        """A run whose steps 1, 2, ... have given losses in evaluation; the best one is to stay."""

        def judged(losses, **options):
            trainer = build(
                eval_strategy="steps", eval_steps=1, load_best_model_at_end=True, max_steps=8,
                extra={"eval_dataset": rows("dpo", groups).select(range(8))}, **options,
            )  # fmt: skip
            evaluate = trainer.evaluate

            def evaluated(*args, **kwargs):
                return evaluate(*args, **kwargs) | {
                    "eval_loss": losses[trainer.state.global_step - 1]
                }

            trainer.evaluate = evaluated
            return trainer

        return judged

    def test_a_best_step_that_is_not_saved_leaves_the_best_one_that_is(self, judged, tmp_path):
        """The third step is the best and is not saved; the second, which is, must stay."""
        trainer = judged([9, 5, 4, 6, 7, 8, 8, 8], save_total_limit=1)
        trainer.train()
        assert names(tmp_path) == {"checkpoint-2"}
        best = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint-2")
        assert equal(weights(trainer.model), weights(best))

    def test_a_best_one_of_the_folder_that_was_left_is_not_forgotten(self, judged, tmp_path):
        losses = [9, 1, 4, 6, 7, 8, 8, 8]
        trainer, resumed = judged(losses), judged(losses)
        trainer.train()
        resumed.args.output_dir = str(tmp_path / "new")
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
        assert resumed.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")
        assert equal(weights(resumed.model), weights(trainer.model))

    def test_a_best_one_that_was_moved_with_the_last_is_found(self, judged, tmp_path):
        """No checkpoint is written any more, by which it would be found again."""
        losses = [9, 1, 4, 6, 7, 8, 8, 8]
        trainer, resumed = judged(losses), judged(losses)
        trainer.train()
        (tmp_path / "moved").mkdir()
        for name in ("checkpoint-2", "checkpoint-8"):
            shutil.move(tmp_path / name, tmp_path / "moved" / name)
        resumed.train(resume_from_checkpoint=str(tmp_path / "moved" / "checkpoint-8"))
        assert equal(weights(resumed.model), weights(trainer.model))


class TestParts:
    @pytest.mark.parametrize("objective", ["dpo", "grpo"])
    def test_each_part_is_missed_by_its_name(self, objective, build, tmp_path):
        build(objective, max_steps=2).train()
        other = build(objective)
        checkpoint = tmp_path / "checkpoint-2"
        files = {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"}
        files |= {"trainer_state.json", "reference.safetensors", "ahead-0.pt", "humanline.json"}
        for name in files:
            (checkpoint / name).rename(tmp_path / "aside")
            with pytest.raises(ValueError, match=rf"checkpoint-2 is not whole.*{name}") as error:
                other.train(resume_from_checkpoint=str(checkpoint))
            assert "\n" not in str(error.value)
            (tmp_path / "aside").rename(checkpoint / name)
        other.train(resume_from_checkpoint=str(checkpoint))

    def test_one_that_is_cut_off_is_told(self, build, tmp_path):
        build(max_steps=2).train()
        path = tmp_path / "checkpoint-2" / "optimizer.pt"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ValueError, match=r"optimizer\.pt is cut off"):
            build().train(resume_from_checkpoint=True)

    def test_the_model_alone_is_no_place_to_go_on_from(self, build, tmp_path):
        build(save_only_model=True).train()
        with pytest.raises(ValueError, match="save_only_model"):
            build().train(resume_from_checkpoint=True)

    @pytest.mark.parametrize("checkpoint", [True, "checkpoint-9"])
    def test_nothing_to_resume_from_is_told(self, checkpoint, build, tmp_path):
        with pytest.raises(ValueError, match=r"no checkpoint to resume|no such checkpoint"):
            build().train(resume_from_checkpoint=checkpoint)

    def test_a_folder_that_is_not_there_has_none(self, build, tmp_path):
        trainer = build()
        trainer.args.output_dir = str(tmp_path / "nowhere")
        with pytest.raises(ValueError, match="nowhere: no checkpoint to resume from"):
            trainer.train(resume_from_checkpoint=True)


class TestSameRun:
    @pytest.mark.parametrize("reference", ["cached", "model"])
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("per_device_train_batch_size", 4),
            ("gradient_accumulation_steps", 2),
            ("optim", "sgd"),
            ("sync_interval", 2),
            ("sync_interval", None),
            ("sync_after_update", True),
            ("seed", 7),
        ],
    )
    def test_options_that_decide_what_is_trained_on_stay(self, reference, option, value, build):
        trainer = build(reference=reference, max_steps=2)
        trainer.train()
        other = build(reference=reference, **{option: value})
        was = getattr(trainer.args, option)
        was = getattr(was, "value", was)  # of an enumeration
        told = rf"{option}={was!r}, and this one has {value!r}; resume it with the options"
        with pytest.raises(ValueError, match=told):
            other.train(resume_from_checkpoint=True)

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("num_generations", 2),
            ("steps_per_generation", 2),
            ("num_iterations", 2),
            ("top_p", 0.5),
        ],
    )
    def test_so_do_those_of_rollouts(self, option, value, model_folder, tmp_path):
        combination = Combination(batch=8, online=True, steps=2)
        saving = {"save_strategy": "steps", "save_steps": 1}
        combination.trainer(model_folder, tmp_path, **saving).train()
        other = combination.trainer(model_folder, tmp_path, **{option: value})
        with pytest.raises(ValueError, match=f"{option}=.*{value}"):
            other.train(resume_from_checkpoint=True)

    @pytest.mark.parametrize("objective", OBJECTIVES)
    def test_so_do_the_rows(self, objective, build, groups):
        build(objective, max_steps=2).train()
        fewer = rows(objective, groups[:-2])
        with pytest.raises(ValueError, match=r"rows of the training set=\d+"):
            build(objective, dataset=fewer).train(resume_from_checkpoint=True)
        groups[5]["completions"] = groups[5]["completions"][::-1]
        with pytest.raises(ValueError, match="their hash"):
            build(objective, dataset=rows(objective, groups)).train(resume_from_checkpoint=True)

    def test_a_number_of_processes_is_such_an_option(self, build, tmp_path):
        build(max_steps=2).train()
        content = read_manifest(tmp_path / "checkpoint-2")
        content["run"]["number of processes"] = 2
        write_manifest(tmp_path / "checkpoint-2", content)
        with pytest.raises(ValueError, match="number of processes=2, and this one has 1"):
            build().train(resume_from_checkpoint=True)

    def test_rows_are_not_trained_on_again_instead_of_being_skipped(self, build):
        build(max_steps=2).train()
        with pytest.raises(ValueError, match="ignore_data_skip"):
            build(ignore_data_skip=True).train(resume_from_checkpoint=True)

    def test_others_may_change(self, build):
        build(max_steps=2).train()
        trainer = build(learning_rate=1e-3, max_steps=6, save_steps=3)
        trainer.train(resume_from_checkpoint=True)
        assert trainer.state.global_step == 6


def test_several_visible_gpus_and_one_process_are_refused(build, monkeypatch):
    """The Trainer would multiply the batch by their number."""
    from transformers import TrainingArguments

    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: 2))
    for objective in OBJECTIVES:
        with pytest.raises(ValueError, match="DataParallel") as error:
            build(objective)
        assert "\n" not in str(error.value)


def test_tokens_are_counted_on(build, tmp_path):
    whole, resumed = build(), build()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    counts = [
        [row["num_tokens"] for row in t.state.log_history if "loss" in row][-1]
        for t in (whole, resumed)
    ]
    assert counts[0] == counts[1]


def test_checkpoints_can_be_moved(build, tmp_path):
    build(max_steps=2).train()
    shutil.move(tmp_path / "checkpoint-2", tmp_path / "elsewhere")
    build().train(resume_from_checkpoint=str(tmp_path / "elsewhere"))
