#!/usr/bin/env bash
# run.sh [--smoke | --draw] [--batch N] [--workers N] [--rate FACTOR] [--no-timings] [MINUTES] [RECIPE[:SHARE[:START]] ...]: train by the plan on this machine's GPU, and time it; ends 60 s
# early. --smoke takes two steps of each recipe; --draw only draws what recipes draw beforehand, on the CPU, and leaves
# it in $LACUNAR_KIT_WORK for a later run.
#
# Needs bash, tar and a Python with torch; no network. Everything else lies in this folder (`make gpu-kit`). Results go to
# $OUT, or to out/ beside this file: RECIPE.safetensors (averaged weights, float16, written anew every minute), records.json
# (losses, images per second of each recipe) and timings.json.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=${LACUNAR_KIT_WORK:-$(mktemp -d)}
out=${OUT:-$here/out}
mkdir -p "$work" "$out"
tar -xzf "$here/source.tar.gz" -C "$work"
for wheel in "$here"/wheels/*.whl; do
  [ -e "$wheel" ] && python3 -m zipfile -e "$wheel" "$work/wheels"
done
export PYTHONPATH="$work/src:$work/benchmarks:$work/wheels${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m gpu_kit.train --kit "$here" --work "$work" --out "$out" "$@"
