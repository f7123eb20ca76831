"""The power of a design by a pilot: by hand, what is written of it, and what is refused."""

import copy
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from edited_yaml import edit, write

from humanline.cli.commands import main
from humanline.files.json_files import write_text
from humanline.files.validation import ConfigError
from humanline.study.runs.pilot import Pilot
from humanline.study.scale.scale import load_scale
from humanline.study.study import Study, load_study
from humanline.tables import power
from humanline.tables.power import PlannedClaim, design, percent
from humanline.tables.statistics.power import OneSidedTest

CONFIG = Path(__file__).parents[2] / "workflow" / "config"
MATH = {"task": "math_reasoning", "compare": "difference"}
SPARSE = {"objective": "grpo", "data": "online", "sample_every": 64}
ONLINE = {"objective": "grpo", "data": "online"}
WORSE = {**MATH, "cell": SPARSE, "against": ONLINE, "expect": "less",
         "paper_effect": {"value": -5.0, "source": "notes"}}  # fmt: skip
AS_GOOD = {**MATH, "cell": SPARSE | {"humanline": True}, "against": ONLINE, "expect": "not_less",
           "margin": 2}  # fmt: skip
RATIO = {"task": "instruction_following", "each": {"objective": ["dpo", "grpo"]}, "over": "mean",
         "cell": {"data": "online"}, "against": {"data": "offline"}, "expect": "greater",
         "paper_effect": {"value": {"dpo": 1.4, "grpo": 1.6}, "source": "notes"}}  # fmt: skip
SECONDARY = {**MATH, "cell": SPARSE, "against": ONLINE, "expect": "equivalent", "margin": 3}
SNAKEMAKE = Path(sys.executable).parent / "snakemake"
PILOT = [101, 102, 103, 104]


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """The smoke scale with ten seeds, a pilot's seeds, two primary claims and another."""
    folder = tmp_path_factory.mktemp("study") / "config"
    folder.mkdir()
    scale = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
    del scale["tasks"]["shared_divisors"]
    scale["seeds"] = {"report": list(range(1, 11)), "tune": [101], "pilot": PILOT}
    write(folder / "smoke.yaml", scale)
    experiments = yaml.safe_load((CONFIG / "experiments.yaml").read_text())
    kept = ("instruction_following", "math_reasoning")
    experiments["tables"] = {name: experiments["tables"][name] for name in kept}
    write(folder / "experiments.yaml", experiments)
    tests = {"sparse": [WORSE, AS_GOOD], "ratio": [RATIO], "other": [SECONDARY]}
    claims = [
        {"id": name, "claim": f"{name} holds.", "source": "notes", "tests": own}
        | {"registered": {"date": "2026-11-26", "reason": "a test"}, "primary": name != "other"}
        for name, own in tests.items()
    ]
    write(folder / "claims.yaml", {"rule": {"alpha": 0.05, "power": 0.8}, "claims": claims})
    return folder


@pytest.fixture
def own_config(config, tmp_path) -> Path:
    """A copy, to be edited."""
    return shutil.copytree(config, tmp_path / "config")


@pytest.fixture(scope="module")
def study(config) -> Study:
    return study_of(config)


def study_of(config: Path) -> Study:
    return load_study(config / "smoke.yaml", config / "experiments.yaml", config.parent / "results")


def pilot_of(study: Study, **deviations: float) -> dict:
    """A pilot with a standard deviation for every comparison of some claims."""
    contrasts: dict[str, dict] = {}
    for comparison, _ in study.planned():
        if sd := deviations.get(comparison.claim.id):
            own = contrasts.setdefault(comparison.test.task, {})
            own[comparison.contrast] = {"seeds": 4, "mean": 0.0, "sd": sd}
    return {"scale": "smoke", "date": "2026-11-26", "seeds": PILOT, "contrasts": contrasts}


def adopt(study: Study, **deviations: float) -> Study:
    """The study with such a pilot."""
    study = copy.copy(study)
    study.pilot = Pilot(**pilot_of(study, **deviations))
    return study


def require_power(study: Study) -> None:
    if study.pilot:
        power.require_power(study.claims, study.planned(), study.pilot, study.paths.pilot)


def designed(study: Study) -> dict[str, PlannedClaim]:
    found = design(study.claims, study.planned(), study.pilot)
    return {own.claim.id: own for own in found}


def test_a_claim_needs_all_of_its_tests(study):
    own = designed(adopt(study, sparse=2.0, ratio=0.2))["sparse"]
    worse, as_good = own.planned
    chances = [OneSidedTest(2.0, d).power(10, 0.025) for d in (5.0, 2.0)]
    assert (worse.power(), as_good.power()) == pytest.approx(chances)
    assert own.power() == pytest.approx(sum(chances) - 1)
    assert own.seeds == 10 and own.power(cautious=True) < own.power()
    assert worse.smallest == pytest.approx(-as_good.smallest)  # of a margin, from no difference
    assert OneSidedTest(2.0, as_good.smallest).power(10, 0.025) == pytest.approx(0.8, abs=1e-4)


def test_a_mean_opens_the_way_to_its_points(study):
    own = designed(adopt(study, sparse=1.0, ratio=0.2))["ratio"]
    mean, dpo, grpo = own.planned
    effects = [(math.log(1.4) + math.log(1.6)) / 2, math.log(1.4), math.log(1.6)]
    missed = [1 - OneSidedTest(0.2, effect).power(10, 0.025) for effect in effects]
    assert own.power() == mean.power() == pytest.approx(1 - missed[0])
    assert dpo.power() == pytest.approx(1 - sum(missed[:2]))
    assert grpo.power() == pytest.approx(1 - sum(missed))
    assert mean.effect == pytest.approx(math.sqrt(1.4 * 1.6)) and mean.smallest == dpo.smallest > 1


def test_other_claims_have_all_of_alpha(study):
    found = designed(adopt(study, sparse=1.0, ratio=0.2))
    assert found["sparse"].needed[0].alpha == 0.025
    (equal,) = found["other"].planned  # the same contrast, so the pilot has it, too
    assert equal.alpha == 0.05 and equal.effect == 0 and len(equal.tests()) == 2


def test_what_the_seeds_can_decide_is_not_refused(study):
    require_power(adopt(study, sparse=1.0, ratio=0.2))


def test_what_the_seeds_can_hardly_decide_is_one_line(study):
    weak = adopt(study, sparse=3.0, ratio=0.2)
    own = designed(weak)["sparse"]
    with pytest.raises(ConfigError) as error:
        require_power(weak)
    line = str(error.value)
    assert (
        f"sparse has {percent(own.power())} with 10 seeds and needs {own.seeds_needed:.0f};" in line
    )
    assert "seeds.report" in line and "ratio" not in line and "\n" not in line
    with pytest.raises(ConfigError, match="needs more than 1024;"):
        require_power(adopt(study, sparse=99.0, ratio=0.2))


def test_what_does_not_reach_the_wanted_power_does_not_look_like_it():
    chances = {0.7999: "79%", 0.8: "80%", 0.29: "29%", 0.9999: "99%", 0.0: "0%", 1.0: "100%"}
    assert {chance: percent(chance) for chance in chances} == chances


def test_what_did_not_vary_cannot_be_planned(study):
    alike = adopt(study, sparse=1.0, ratio=0.2)
    for spreads in alike.pilot.contrasts.values():
        for name in [name for name in spreads if "humanline" in name]:
            spreads[name] = spreads[name].model_copy(update={"sd": 0.0})
    assert math.isnan(designed(alike)["sparse"].planned[1].smallest)
    with pytest.raises(ConfigError, match="sparse has none, as its cells did not differ"):
        require_power(alike)


def test_a_pilot_from_before_a_claim_is_one_line(study):
    with pytest.raises(ConfigError, match=r"lacks mean of dpo.* ratio; run `snakemake power.*copy"):
        require_power(adopt(study, sparse=1.0))


def test_a_primary_claim_needs_the_effects_of_all_its_comparisons(own_config):
    """The known ones alone would give a power that the claim does not have."""
    edit(own_config / "claims.yaml", lambda c: c["claims"][0]["tests"][0].pop("paper_effect"))
    with pytest.raises(ConfigError, match="no paper_effect and no margin") as error:
        require_power(adopt(study_of(own_config), sparse=1.0, ratio=0.2))
    line = str(error.value)
    assert line.startswith(
        "claims.yaml: claim sparse: grpo-online-every64 - grpo-online-every1 < 0"
    )
    assert "add paper_effect" in line and "\n" not in line
    edit(own_config / "claims.yaml", lambda c: c["claims"][0].update(primary=False))
    require_power(adopt(study_of(own_config), sparse=1.0, ratio=0.2))


def test_what_is_not_known_of_a_design_is_one_line(study, own_config):
    assert power.weigh(adopt(study, sparse=1.0, ratio=0.2).design()) == []
    (line,) = power.weigh(study.design())
    assert "pilot: none, so the power of sparse, ratio is not known; `snakemake power" in line
    edit(own_config / "smoke.yaml", lambda scale: scale["seeds"].update(report=[1]))
    (line,) = power.weigh(study_of(own_config).design())
    assert "seeds.report: one seed cannot decide sparse, ratio; give at least 2" in line
    for claim in range(2):
        edit(own_config / "claims.yaml", lambda c, n=claim: c["claims"][n].update(primary=False))
    assert power.weigh(study_of(own_config).design()) == []


def change(path: str, value):
    """An edit of the scale's file that sets a value within the task of math."""

    def edited(scale):
        part = scale["tasks"]["math_reasoning"]
        *parents, last = path.split(".")
        for name in parents:
            part = part.setdefault(name, {})
        part[last] = value

    return edited


MATHS = "tasks.math_reasoning"
PILOTED = "learning_rates.math_reasoning.grpo-online-every64"


@pytest.mark.parametrize(
    ("edited", "changed"),
    [
        (change("training.steps", 16), f"{MATHS}.training"),
        (change("training.objectives.grpo.batch_size", 8), f"{MATHS}.training.objectives.grpo"),
        (change("data.evaluation", 128), f"{MATHS}.data"),
        (change("evaluation.temperature", 1.0), f"{MATHS}.evaluation"),
        (change("base_model.hidden_size", 64), f"{MATHS}.base_model"),
        (change("training.learning_rate", 2e-3), PILOTED),
        (lambda scale: scale["tasks"]["instruction_following"]["judge"].update(temperature=1.0),
         "tasks.instruction_following.judge"),
        (lambda scale: scale.update(generation={"engine": "vllm"}), "generation"),
        # These leave the results as they are, or are of no run that a claim compares.
        (lambda scale: scale.update(description="other words"), ""),
        (lambda scale: scale["seeds"].update(report=[5, 6]), ""),
        (change("training.tune_learning_rates", [1e-4, 1e-3]), ""),
        (change("training.objectives.kto", {"batch_size": 8, "beta": 0.1}), ""),
        (change("base_models.unused", {"kind": "hub", "repo": "a/b", "revision": None}), ""),
    ],
)  # fmt: skip
def test_a_pilot_knows_what_it_measured(edited, changed, study, own_config):
    pilot = adopt(study, sparse=1.0, ratio=0.2).pilot
    pilot = pilot.model_copy(update={"options": study.power_request().options})
    assert pilot.options.keys() >= {"generation", PILOTED, f"{MATHS}.reward"}
    edit(own_config / "smoke.yaml", edited)
    now = study_of(own_config)
    now.pilot = pilot
    said = now.pilot_changes()
    assert said.startswith(f"measured on an earlier form of this scale ({changed}") == bool(changed)
    assert bool(said) == bool(changed)


def test_a_pilot_of_other_runs_is_a_warning_and_claims_may_go(study):
    old, options = adopt(study, sparse=1.0, ratio=0.2), study.power_request().options
    others = {"tasks.math_reasoning.reward": "other", "of a claim that went": "a"}
    old.pilot = old.pilot.model_copy(update={"options": options | others})
    (line,) = power.weigh(old.design())
    assert "pilot: measured on an earlier form of this scale (tasks.math_reasoning.reward" in line
    assert "snakemake power --config scale=smoke`, and copy" in line and "\n" not in line
    many = old.pilot.model_copy(update={"options": dict.fromkeys(options, "other")})
    assert f" and {len(options) - 3} more changed since)" in many.changes(options)


def test_a_margin_may_change_after_the_pilot_and_a_scale_does_not_inherit_it(own_config):
    write(own_config / "pilot.yaml", pilot_of(study_of(own_config), sparse=3.0, ratio=0.2))
    edit(own_config / "smoke.yaml", lambda scale: scale.update(pilot="pilot.yaml"))
    edit(own_config / "claims.yaml", lambda c: c["claims"][0]["tests"][1].update(margin=9))
    require_power(study_of(own_config))
    (own_config / "bigger.yaml").write_text("scale: bigger\nextends: smoke.yaml\n")
    assert load_scale(own_config / "bigger.yaml").pilot is None
    edit(own_config / "pilot.yaml", lambda pilot: pilot.update(scale="laptop"))
    with pytest.raises(ConfigError, match=r"pilot\.yaml: scale: laptop is not smoke; .*power"):
        study_of(own_config)


def test_the_command_measures_and_its_pilot_can_be_adopted(own_config, capfd):
    """Ten problems a run; what differs between seeds is how many are right."""
    edit(own_config / "claims.yaml", lambda claims: claims["claims"].pop(1))
    study = study_of(own_config)
    assert {cell.seed for cell in study.evaluated("power")} == set(PILOT)
    right = {"grpo-online-every1": (8, 8, 9, 9), "grpo-online-every64": (4, 3, 4, 3)}
    for run in study.power_request().measured.runs:
        correct = right.get(run.cell.variant, (8, 9, 8, 9))[run.cell.seed - 101]
        rows = [
            {"step": step, "problem_id": i, "sample": 0, "correct": int(i < correct)}
            for step in (4, 8)
            for i in range(10)
        ]
        write_text(run.paths.grades, pd.DataFrame(rows).to_csv(index=False))
    options = ["--scale", "smoke", "--config", str(own_config), "--results", str(study.root)]
    assert main(["power", *options]) == 0, capfd.readouterr().err
    table = pd.read_csv(study.paths.power / "power.csv").set_index("comparison")
    worse = table.loc["grpo-online-every64 - grpo-online-every1 < 0"]
    assert (worse["pilot_mean"], worse["sd"]) == pytest.approx((-50, 100 * 0.0816497), rel=1e-5)
    assert worse["seeds"] == 10 and worse["alpha"] == 0.05 and worse["pilot_seeds"] == 4
    page = (study.paths.power / "power.md").read_text()
    assert "| sparse" in page and "Other claims" in page and "nan" not in page
    settings = ["scale=smoke", f"config_directory={own_config}", f"results={study.root}"]
    command = [SNAKEMAKE, "--cores", "1", "--nolock", "claims", "--config", *settings]
    dry = subprocess.run([*command, "-n"], cwd=CONFIG.parents[1], capture_output=True, text=True)
    assert dry.returncode == 0 and dry.stderr.count("humanline: warning: ") == 1
    assert "scale smoke: pilot: none, so the power of sparse is not known" in dry.stderr
    shutil.copy(study.paths.pilot, own_config / "pilot.yaml")
    edit(own_config / "smoke.yaml", lambda scale: scale.update(pilot="pilot.yaml"))
    assert study_of(own_config).pilot_changes() == ""
    run = subprocess.run(command, cwd=CONFIG.parents[1], capture_output=True, text=True)
    (line,) = [line for line in run.stderr.splitlines() if "humanline: error:" in line]
    assert run.returncode and "sparse has" in line and "Traceback" not in run.stderr
    assert not study.paths.prompts("math_reasoning", "train", "s1").exists()
    with pytest.raises(ConfigError, match="too few for a power of 80%"):  # a margin of 2 points
        require_power(study_of(own_config))


def test_a_pilot_of_one_seed_has_no_spread(study):
    one = copy.copy(study)
    seeds = one.scale.seeds.model_copy(update={"pilot": None})
    one.scale = one.scale.model_copy(update={"seeds": seeds})
    with pytest.raises(ConfigError, match=r"seeds\.pilot: \[101\] has no spread; add seeds"):
        one.power_request()


def test_the_check_is_cheap():
    """Snakemake's main process makes it: no library that is slow to import is loaded for it."""
    code = "import sys, humanline.tables.power; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"scipy.stats", "pandas", "statsmodels", "torch"} & set(run.stdout.split())
