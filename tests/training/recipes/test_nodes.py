"""The Slurm scripts of recipes: what each node would start, up to where GPUs are needed.

Slurm's commands and the launchers are stand-ins that write down what they are asked; the scripts
are the shipped ones. test_cluster asks a real Slurm whether it would take them.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
SCRIPTS = sorted((ROOT / "recipes" / "slurm").glob("*.sh"))
STANDS_IN = {
    # show hostnames a,b
    "scontrol": 'echo "$3" | tr , "\\n"',
    # One task on each node, as the scripts' --ntasks-per-node=1 says.
    "srun": """
echo "$*" >> "$LOG.srun"
while [[ $1 == --* ]]; do
  [[ $1 == --nodes=* ]] && nodes=${1#--nodes=}
  shift
done
for ((node = 0; node < nodes; node++)); do SLURM_NODEID=$node "$@" || exit; done
""",
    **dict.fromkeys(
        ("accelerate", "trl"),
        'python3 -c "import json, sys; print(json.dumps(sys.argv[1:]))"'
        ' "$(basename "$0")" "$@" >> "$LOG"',
    ),
}


@pytest.fixture
def start(tmp_path):
    """Runs a script as Slurm would on its first node; returns its result and what was started."""
    for name, text in STANDS_IN.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)

    def call(script: str, *arguments: str, nodes=("n1", "n2"), gpus="4"):
        environment = os.environ | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(tmp_path / "log"),
            "SLURM_JOB_ID": "123456", "SLURM_NNODES": str(len(nodes)),
            "SLURM_JOB_NODELIST": ",".join(nodes), "SLURM_GPUS_ON_NODE": gpus,
        }  # fmt: skip
        command = ["bash", f"recipes/slurm/{script}.sh", *arguments]
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        log = tmp_path / "log"
        return run, [*map(json.loads, log.read_text().splitlines())] if log.exists() else []

    return call


def parsed(words: list[str]):
    from accelerate.commands.launch import launch_command_parser

    assert words[:2] == ["accelerate", "launch"]
    return launch_command_parser().parse_args(words[2:])


def test_each_node_starts_a_launcher_of_its_rank(start):
    run, started = start("train", "recipes/dpo.yaml", "--gradient_accumulation_steps", "1")
    assert run.returncode == 0, run.stderr
    launched = [parsed(words) for words in started]
    assert [own.machine_rank for own in launched] == [0, 1]
    for own in launched:
        assert (own.num_machines, own.num_processes) == (2, 8)
        assert (own.main_process_ip, own.rdzv_backend) == ("n1", "c10d")
        assert own.main_process_port == 20_000 + 123456 % 20_000
        assert own.module and own.training_script == "humanline"
        assert own.training_script_args == [
            *("recipe", "recipes/dpo.yaml", "--gradient_accumulation_steps", "1")
        ]
        assert (ROOT / own.config_file).is_file()


def test_the_last_node_serves_and_the_others_train(start, tmp_path):
    run, started = start("train_served", "recipes/grpo_served.yaml", nodes=("n1", "n2", "n3"))
    assert run.returncode == 0, run.stderr
    asked = [
        re.search(r"--nodes=(\d) --ntasks=(\d) --nodelist=(\S+)", line)
        for line in (tmp_path / "log.srun").read_text().splitlines()
    ]
    assert {own.groups() for own in asked} == {("1", "1", "n3"), ("2", "2", "n1,n2")}
    (served,) = [words for words in started if words[0] == "trl"]
    recipe = yaml.safe_load((ROOT / "recipes" / "grpo_served.yaml").read_text())
    assert served[1:8] == [
        *("vllm-serve", "--model", recipe["model_name_or_path"]),
        *("--revision", recipe["model_revision"], "--tensor_parallel_size", "4"),
    ]
    launched = [parsed(words) for words in started if words[0] == "accelerate"]
    assert [own.machine_rank for own in launched] == [0, 1]
    for own in launched:
        assert (own.num_machines, own.num_processes, own.main_process_ip) == (2, 8, "n1")
        options = own.training_script_args
        assert options[options.index("--vllm_server_host") + 1] == "n3"


@pytest.mark.parametrize(
    ("script", "arguments", "options", "said"),
    [
        ("train", (), {}, "name a recipe"),
        ("train", ("recipes/dpo.yaml",), {"gpus": ""}, "submit with --gpus-per-node"),
        (
            "train_served",
            ("recipes/grpo_served.yaml",),
            {"nodes": ("n1",)},
            "submit with --nodes=2",
        ),
    ],
)
def test_what_is_missing_is_told_before_anything_starts(start, script, arguments, options, said):
    run, started = start(script, *arguments, **options)
    assert run.returncode != 0 and said in run.stderr and started == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_job_asks_for_one_launcher_a_node(path):
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)", path.read_text(), flags=re.M))
    assert asked["ntasks-per-node"] == "1" and int(asked["nodes"]) > 1
    assert {"gpus-per-node", "mem", "time", "output"} <= set(asked)


def test_the_servers_options_are_trls():
    """The scripts' and the page's; TRL's class has them without vLLM."""
    from dataclasses import fields

    from trl.scripts.vllm_serve import ScriptArguments

    known = {field.name for field in fields(ScriptArguments)}
    texts = [(ROOT / "docs/many-gpus.md").read_text(), *(path.read_text() for path in SCRIPTS)]
    lines = [line for text in texts for line in re.findall(r"vllm-serve (.*)", text)]
    told = {option for line in lines for option in re.findall(r"--(\w+)", line)}
    assert {"model", "port"} <= told <= known


PAGE = (ROOT / "docs" / "many-gpus.md").read_text()
LINES = [
    line.split(maxsplit=1)[1] if line.startswith("CUDA_VISIBLE_DEVICES=") else line
    for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.S)
    for line in block.splitlines()
]


@pytest.mark.parametrize("line", [line for line in LINES if " recipes/" in line])
def test_commands_of_the_page_start_recipes_with_the_papers_batches(line):
    """Accelerate takes its options, and our parser those of the recipe; batches are 32 or 64."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    from humanline.training.recipes.options import Parser

    program, *words = line.split()
    processes = 1
    if program == "accelerate":
        launched = launch_command_parser().parse_args(words[1:])
        config = load_config_from_file(str(ROOT / launched.config_file))
        processes = launched.num_processes or config.num_processes
        words = launched.training_script_args
    elif program == "sbatch":
        asked = dict(re.findall(r"--([\w-]+)=(\d+)", line))
        (script,) = [word for word in words if word.endswith(".sh")]
        words = ["recipe", *words[words.index(script) + 1 :]]
        nodes = int(asked["nodes"]) - script.endswith("served.sh")  # that trains on one less
        assert (ROOT / script).is_file()
        processes = nodes * int(asked["gpus-per-node"])
    assert words[0] == "recipe"
    content = yaml.safe_load((ROOT / words[1]).read_text())
    objective = content.pop("objective")
    overrides = [*words[2:], "--use_cpu"]  # there is no GPU to have bfloat16
    _, training, *_ = Parser(objective).read(ROOT / words[1], content, overrides)
    of_a_gpu = training.per_device_train_batch_size * training.gradient_accumulation_steps
    assert of_a_gpu * processes == {"dpo": 32}.get(objective, 64)
