"The notebooks are clean, the library and README are in step with them (`make check`)."

import importlib.util, json, re
import pytest
from copies import ROOT, copy_project, run

NOTEBOOKS = sorted(
    p
    for p in (ROOT / "nbs").rglob("*.ipynb")
    if not any(part.startswith((".", "_")) for part in p.relative_to(ROOT).parts)
)
STAGES = [p for p in NOTEBOOKS if p.parent.name == "stages"]
name = lambda path: str(path.relative_to(ROOT / "nbs"))


def cells(path, kind="code"):
    return [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == kind]


@pytest.fixture(scope="module")
def tidied(tmp_path_factory):
    "A copy of the project in which export and clean have run."
    copy = copy_project(tmp_path_factory.mktemp("tidy") / "project")
    for file in (copy / "cd4ml_nb").rglob("*.py"):
        file.unlink()
    for command in ("nbdev_export", "nbdev_clean"):
        done = run(copy, command)
        assert done.returncode == 0, done.stderr
    return copy


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 3


def test_the_library_is_what_the_notebooks_export(tidied):
    wrong = []
    for folder, other in ((ROOT, tidied), (tidied, ROOT)):
        for file in (folder / "cd4ml_nb").rglob("*.py"):
            here = file.relative_to(folder)
            if not (other / here).exists() or (other / here).read_bytes() != file.read_bytes():
                wrong.append(str(here))
    assert not wrong, f"Not what the notebooks export: {sorted(set(wrong))}. Edit the notebooks, then run: make tidy"


def test_the_notebooks_are_clean(tidied):
    dirty = [name(p) for p in NOTEBOOKS if p.read_bytes() != (tidied / p.relative_to(ROOT)).read_bytes()]
    assert not dirty, f"Not clean: {dirty}. Run: make tidy"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_notebook_keeps_the_house_rules(path):
    kernel = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("kernelspec", {}).get("name")
    assert kernel == "python3", f"{name(path)}: its kernel is {kernel}, and should be python3"
    for cell in cells(path):
        source = "".join(cell["source"])
        assert len(source.splitlines()) <= 40, (
            f"{name(path)}: a cell of {len(source.splitlines())} lines, at most 40: {source[:60]!r}"
        )
        assert not re.search(r"^\s*[%!](?!=)", source, re.M), (
            f"{name(path)}: a magic or shell command in {source[:60]!r}"
        )
        assert not re.search(r"^\s*from (?!fastcore|nbdev)\S+ import \*", source, re.M), (
            f"{name(path)}: a wildcard import in {source[:60]!r}"
        )
        for output in cell["outputs"]:
            assert output["output_type"] != "error", f"{name(path)}: a stored error in {source[:60]!r}"
            assert output.get("name") != "stderr", f"{name(path)}: stored stderr output in {source[:60]!r}"


@pytest.mark.parametrize("path", STAGES, ids=name)
def test_a_picture_in_a_report_has_a_text(path):
    bare = [source[:60] for source in ("".join(cell["source"]) for cell in cells(path)) if "plt.show()" in source]
    assert not bare, f"{name(path)}: show_figure() (cd4ml_nb.look) gives a picture its text; plt.show() in {bare}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_notebook_opens_with_title_and_subtitle(path):
    if path.parent.name == "apps":
        return  # an app opens with what its user sees
    first = "".join(cells(path, "markdown")[0]["source"]).splitlines()
    assert first[0].startswith("# "), f"{name(path)} should open with a title (# ...)"
    assert any(line.startswith("> ") for line in first) or path.name == "index.ipynb", (
        f"{name(path)}: a line '> what it answers' should follow the title"
    )


@pytest.mark.parametrize("path", STAGES, ids=name)
def test_a_stage_has_its_parameters_cell(path):
    from cd4ml_nb.delivery.parameters import notebook_parameters

    asked = notebook_parameters(path)
    assert list(asked)[:1] == ["tiny"] and asked["tiny"] is True, (
        f"{name(path)}: the first parameter should be: tiny = True"
    )
    exports = [c for c in cells(path) if re.search(r"^#\|\s*(export|default_exp)", "".join(c["source"]), re.M)]
    assert not exports, f"{name(path)}: a stage exports nothing"


def test_readme_is_what_index_says():
    if not (ROOT / "nbs" / "index.ipynb").exists():
        pytest.fail("nbs/index.ipynb is missing, and README.md is made from it")
    spec = importlib.util.spec_from_file_location("readme", ROOT / "scripts" / "readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "README.md").read_text(encoding="utf-8") == module.readme(ROOT / "nbs" / "index.ipynb"), (
        "README.md differs from nbs/index.ipynb. Run: make readme"
    )


def test_a_dirty_copy_is_noticed(tmp_path):
    "The check itself: an edited library file and an executed notebook are found."
    copy = copy_project(tmp_path / "copy")
    core = copy / "nbs" / "core.ipynb"
    for other in set((copy / "nbs").rglob("*.ipynb")) - {core}:
        other.unlink()  # all together they take ten times as long
    before, library = core.read_bytes(), (copy / "cd4ml_nb" / "core.py").read_text()
    notebook = json.loads(before)
    next(c for c in notebook["cells"] if c["cell_type"] == "code")["execution_count"] = 7
    core.write_text(json.dumps(notebook))
    (copy / "cd4ml_nb" / "core.py").write_text(library + "\nedited = True\n")
    assert run(copy, "nbdev_export").returncode == run(copy, "nbdev_clean").returncode == 0
    assert "edited" not in (copy / "cd4ml_nb" / "core.py").read_text()
    assert '"execution_count": 7' not in core.read_text()
