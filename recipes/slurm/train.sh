#!/usr/bin/env bash
# One recipe on several nodes of a Slurm cluster. From the folder of the repository:
#   sbatch --nodes=2 --gpus-per-node=4 recipes/slurm/train.sh recipes/dpo.yaml [--key value ...]
# All nodes share this folder and the environment, which is active when you submit (Slurm passes it on).
#SBATCH --job-name=humanline
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --mem=480G
#SBATCH --time=24:00:00
#SBATCH --output=%x-%j.log
# ntasks-per-node: one launcher on each node, which starts a process for each of its GPUs.
set -euo pipefail

recipe=${1:?"name a recipe: sbatch recipes/slurm/train.sh recipes/dpo.yaml"}
shift
configuration=${CONFIGURATION:-recipes/accelerate/fsdp2.yaml}
gpus=${SLURM_GPUS_ON_NODE:?"Slurm gave the job no GPUs: submit with --gpus-per-node"}
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# All nodes meet at the first one. Jobs that share a node have numbers of their own, and so ports.
port=$((20000 + SLURM_JOB_ID % 20000))

# shellcheck disable=SC2016  # SLURM_NODEID is each launcher's own
exec srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" --nodelist="$SLURM_JOB_NODELIST" \
  --kill-on-bad-exit=1 bash -c 'exec accelerate launch --machine_rank "$SLURM_NODEID" "$@"' launch \
  --config_file "$configuration" \
  --num_machines "$SLURM_NNODES" --num_processes $((SLURM_NNODES * gpus)) \
  --main_process_ip "$first" --main_process_port "$port" --rdzv_backend c10d \
  -m humanline recipe "$recipe" "$@"
