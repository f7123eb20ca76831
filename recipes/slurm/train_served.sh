#!/usr/bin/env bash
# As train.sh, with one node more, the last one, on which vLLM serves the model that is trained:
#   sbatch --nodes=3 --gpus-per-node=4 recipes/slurm/train_served.sh recipes/grpo_served.yaml [--key value ...]
#SBATCH --job-name=humanline
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --mem=480G
#SBATCH --time=24:00:00
#SBATCH --output=%x-%j.log
set -euo pipefail

recipe=${1:?"name a recipe: sbatch recipes/slurm/train_served.sh recipes/grpo_served.yaml"}
shift
gpus=${SLURM_GPUS_ON_NODE:?"Slurm gave the job no GPUs: submit with --gpus-per-node"}
((SLURM_NNODES > 1)) || { echo "one node serves, so submit with --nodes=2 or more" >&2; exit 2; }
# shellcheck disable=SC2207  # names of nodes have no spaces
nodes=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
last=${nodes[$((${#nodes[@]} - 1))]}
of_recipe() { sed -n "s/^$1: *\([^ ]*\).*/\1/p" "$recipe"; }
model=$(of_recipe model_name_or_path)
revision=$(of_recipe model_revision)

srun --nodes=1 --ntasks=1 --nodelist="$last" \
  trl vllm-serve --model "$model" --revision "${revision:-main}" --tensor_parallel_size "$gpus" \
  --host 0.0.0.0 --port 8000 &
trap 'kill %1' EXIT

# train.sh reads these: the nodes that train, and their number. TRL waits until the server answers.
training=("${nodes[@]:0:$((${#nodes[@]} - 1))}")
SLURM_NNODES=${#training[@]}
SLURM_JOB_NODELIST=$(IFS=,; echo "${training[*]}")
export SLURM_NNODES SLURM_JOB_NODELIST
bash recipes/slurm/train.sh "$recipe" "$@" \
  --vllm_server_host "$last" --vllm_server_timeout 1200
