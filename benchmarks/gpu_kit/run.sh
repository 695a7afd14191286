#!/usr/bin/env bash
# run.sh [--smoke] [MINUTES] [RECIPE:SHARE ...]: train by the plan on this machine's GPU, and time it; ends 60 s early.
#
# Needs bash, tar and a Python with torch; no network. Everything else lies in this folder (`make gpu-kit`). Results go to
# $OUT, or to out/ beside this file: RECIPE.safetensors (averaged weights, float16, written anew every minute), RECIPE.json
# (losses, images per second) and timings.json.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=${LACUNAR_KIT_WORK:-$(mktemp -d)}
out=${OUT:-$here/out}
mkdir -p "$work" "$out"
tar -xzf "$here/source.tar.gz" -C "$work"
for wheel in "$here"/wheels/*.whl; do
  [ -e "$wheel" ] && python3 -m zipfile -e "$wheel" "$work/wheels"
done
export PYTHONPATH="$work/src:$work/wheels${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" "$work/benchmarks/gpu_kit/train.py" --kit "$here" --work "$work" --out "$out" "$@"
