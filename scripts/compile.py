"""Compile what the commands import, once; uv, unlike pip, leaves that to each first start.

Where PYTHONDONTWRITEBYTECODE is set, as in many containers, every start would do it anew: seconds each time.
"""

import pkgutil
from importlib import import_module

import cd4ml_nb
from cd4ml_nb.delivery.mlflow_store import load_store
from cd4ml_nb.delivery.pipeline import _OF_DVC
from cd4ml_nb.delivery.warm import FIRST, LATER, THEN

LATE = ("ibis.backends.duckdb", "skl2onnx", "onnx.helper", "mlflow.pyfunc", "dvc.cli", "voila.app", "pytest")
OWN = [module.name for module in pkgutil.walk_packages(cd4ml_nb.__path__, "cd4ml_nb.")]

for name in (*OWN, *FIRST, *THEN, *LATER, *_OF_DVC, *LATE):
    import_module(name)
load_store()
