"""Losses of DPO, and of KTO, that have no humanline variant."""

import pytest

import humanline


@pytest.mark.parametrize(
    ("objective", "options", "message"),
    [
        ("dpo", {"loss_type": ["sigmoid", "aot"]}, "loss_type='aot'.*Choose aot_unpaired"),
        ("dpo", {"loss_type": ["sigmoyd"]}, "loss_type='sigmoyd'.*Choose among sigmoid, hinge"),
        ("dpo", {"loss_type": ["sft"]}, r"\['sft'\].*Add to it, as in \['sigmoid', 'sft'\]"),
        ("dpo", {"label_smoothing": 0.1}, r"label_smoothing=0.1.*\['sigmoid'\].*choose robust"),
        ("dpo", {"loss_type": "exo_pair"}, "label_smoothing must be above 0.*exo_pair; got 0.0"),
        ("dpo", {"loss_type": "robust", "label_smoothing": 0.5}, "below 0.5 for robust; got 0.5"),
        ("dpo", {"f_divergence_type": "kl"}, "f_divergence_type must be one of reverse_kl,.*'kl'"),
        ("dpo", {"loss_type": None}, "loss_type must be a list of names; got None"),
        ("dpo", {"loss_weights": ["0.5"]}, "loss_weights must be a list of numbers; got"),
        ("dpo", {"loss_weights": [-0.5]}, r"loss_weights must be at least 0; got \[-0.5\]"),
        (
            "dpo",
            {"loss_type": ["sigmoid", "sft"], "use_weighting": True},
            "use_weighting=True has no humanline meaning with sft.*Leave sft out",
        ),
        ("dpo", {"ld_alpha": 1.5}, "ld_alpha must be at most 1; got 1.5"),
        ("kto", {"loss_type": "bco"}, "loss_type must be one of kto, apo_zero_unpaired; got 'bco'"),
    ],
    ids=str,
)
def test_losses_that_cannot_perceive_are_refused(objective, options, message, tmp_path):
    config = getattr(humanline, f"Humanline{objective.upper()}Config")
    with pytest.raises(ValueError, match=message):
        config(output_dir=str(tmp_path), bf16=False, **options)


def test_one_loss_may_have_its_weight_without_a_list(tmp_path):
    options = {"output_dir": str(tmp_path), "bf16": False}
    args = humanline.HumanlineDPOConfig(loss_type="ipo", loss_weights=0.5, **options)
    assert (args.loss_type, args.loss_weights) == (["ipo"], [0.5])
