"""Write the files in ops/ that are made from the tables of panels in nbs/monitoring/05e_panels.ipynb.

`make tidy` runs it."""

from pathlib import Path
from cd4ml_nb.core import replace_file
from cd4ml_nb.monitoring.panels import ops_files

OPS = Path(__file__).resolve().parent.parent / "ops"

if __name__ == "__main__":
    for path, text in ops_files().items():
        with replace_file(OPS / path) as tmp:
            tmp.write_text(text, encoding="utf-8")
