#!/usr/bin/env bash
# The GPU check, at most ten minutes: the tests marked gpu, the speed benchmark, one dm and one mtt cell.
# Results go to benchmarks/results/gpu (or the folder given) as JSON; without a GPU it says so and ends well.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-$(test -x .venv/bin/python && echo .venv/bin/python || echo python3)}
out=${1:-benchmarks/results/gpu}
if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "no GPU is here: nothing to check"
    exit 0
fi
mkdir -p "$out"
"$python" -m pytest -q -n 0 -m gpu tests | tee "$out/tests.txt"
"$python" -m benchmarks.measure.speed --device auto --repeats 3 --out "$out/speed.json"
"$python" -m condense benchmark benchmarks/grids/gpu.yaml --out "$out"
