#!/bin/sh
# Remove .venv and what `make run` makes again. Says first what goes and what stays.
set -eu
cd "$(dirname "$0")/.."
gone=""
for path in .venv data/prepared data/split data/evaluation data/fitted data/model data/registered.json reports/*.ipynb reports/*.html reports/run.json reports/facets reports/screenshots .pytest_cache *.egg-info build dist; do
    if [ -e "$path" ]; then gone="$gone $path"; fi
done
if [ -z "$gone" ]; then echo "Nothing to remove."; else
    echo "Removing what 'make run' makes again:$gone"
    rm -rf $gone
fi
echo "Kept: your raw tables (data/raw), DVC's store of earlier versions (.dvc/cache, dvc-remote) and everything in git."
echo "Kept, too: MLflow's runs (data/mlflow), registered models (data/registry) and the log of releases (reports/releases.jsonl)."
