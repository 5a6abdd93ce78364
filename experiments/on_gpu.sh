#!/usr/bin/env bash
# What only a GPU can show, in the order of its worth. Each part goes on where it was stopped, and keeps its output in OUT.
#
#     bash experiments/on_gpu.sh OUT parity      golden arrays, and the laws of geometry, diffusion, LoRA and both networks
#     bash experiments/on_gpu.sh OUT benchmark   speed beside PyTorch in float32 and bfloat16; needs PyTorch
#     bash experiments/on_gpu.sh OUT bases DIR   the plans `base` and `base_detected`, twice as wide; DIR holds cmu.zip, accad.zip
#
# SMALL=1 takes tiny sizes, to see on a CPU that everything runs. Their numbers mean nothing.
set -euo pipefail
out=$1 part=$2 manual_dir=${3:-}
python=${PYTHON:-python3}
mkdir -p "$out"
export XLA_PYTHON_CLIENT_PREALLOCATE=false
small() { [ -n "${SMALL:-}" ] && echo "$@" || true; }

case $part in
  parity)
    JAX_PLATFORMS=${JAX_PLATFORMS:-cuda} "$python" -m pytest -ra -n 4 $(small -x tests/peft) \
        tests/geometry tests/diffusion tests/peft tests/test_golden.py tests/interop/test_torch_networks.py \
        2>&1 | tee "$out/parity.txt"
    ;;
  benchmark)
    cases=forward_243,teacher_h3,teacher_h20,adapt_step,adapt_step_243,inference_k1,pretrain_step
    for dtype in float32 bfloat16; do
      "$python" -m experiments.benchmark --cases="$cases" --dtype="$dtype" --json="$out/benchmark_$dtype.json" $(small --smoke) \
          2>&1 | tee "$out/benchmark_$dtype.txt"
    done
    ;;
  bases)
    flags="--manual_dir=$manual_dir --width=$([ -n "${SMALL:-}" ] && echo 32 || echo 192) --heads=$([ -n "${SMALL:-}" ] && echo 1 || echo 6) $(small --steps=4 --batch=8)"
    "$python" -m experiments.pretrain --plan=base $flags --workdir="$out/base" 2>&1 | tee "$out/base.txt"
    "$python" -m experiments.pretrain --plan=base_detected $flags --start="$out/base" --workdir="$out/base_detected" \
        2>&1 | tee "$out/base_detected.txt"
    ;;
  *) echo "$part is none of parity, benchmark, bases" >&2; exit 1 ;;
esac
