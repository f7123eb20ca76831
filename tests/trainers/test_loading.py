"""What the trainers load by a path has all of its weights, or is refused."""

import shutil

import pytest
from safetensors.torch import load_file, save_file
from tiny import OBJECTIVES, make_trainer, rows

import humanline

UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def lacking(model_folder, tmp_path):
    """The tiny model's folder without one of its tensors."""
    folder = shutil.copytree(model_folder, tmp_path / "lacking")
    weights = load_file(folder / "model.safetensors")
    del weights[UP]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("humanline", [True, False])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_policy_that_lacks_a_tensor_is_refused(
    objective, humanline, lacking, tokenizer, groups, tmp_path
):
    options = {"humanline": humanline, "beta": 0.1}
    with pytest.raises(ValueError, match=f"{lacking}: no weights for {UP}"):
        make_trainer(
            objective, str(lacking), tokenizer, rows(objective, groups), tmp_path, **options
        )


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_trls_own_reference_that_lacks_a_tensor_is_refused(
    objective, model, lacking, tokenizer, groups, tmp_path
):
    model.config._name_or_path = str(lacking)  # TRL loads its reference from there
    with pytest.raises(ValueError, match=f"no weights for {UP}"):
        make_trainer(
            objective, model, tokenizer, rows(objective, groups), tmp_path, humanline=False
        )


def test_a_language_model_is_not_taken_for_a_reward_model(model, model_folder, tmp_path):
    """It would score with a head that was drawn at random."""
    args = humanline.HumanlineGRPOConfig(output_dir=str(tmp_path), bf16=False, num_generations=4)
    with pytest.raises(ValueError, match=r"no weights for score\.weight"):
        humanline.HumanlineGRPOTrainer(model, str(model_folder), args=args)
