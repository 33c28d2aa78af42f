"Write README.md from nbs/index.ipynb (`make readme`). Its links are relative to nbs/, so that they work there, too."

import os, re, sys
from pathlib import Path
import nbformat
from nbconvert import MarkdownExporter


def readme(notebook):  # Path of index.ipynb
    "The notebook as markdown: prose, the code that is not only set-up, and its text outputs."
    nb = nbformat.read(notebook, as_version=4)
    nb.cells = [cell for cell in nb.cells if not cell.source.lstrip().startswith(("#| hide", "#| default_exp"))]
    for cell in nb.cells:
        cell.source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("#|"))
    text, resources = MarkdownExporter().from_notebook_node(nb)
    if resources.get("outputs"):
        raise SystemExit(
            "nbs/index.ipynb stores pictures as cell outputs; show them as files instead: ![text](docs/picture.png)"
        )
    text = re.sub(r"\]\((?!\w+:|#)([^)]+)\)", lambda link: f"]({os.path.normpath('nbs/' + link[1])})", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent
    if not (root / "nbs" / "index.ipynb").exists():
        sys.exit("nbs/index.ipynb is missing, so there is nothing to make README.md from.")
    (root / "README.md").write_text(readme(root / "nbs" / "index.ipynb"), encoding="utf-8")
