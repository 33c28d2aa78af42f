"""Write the documentation into _docs/ (`make docs`): every notebook as a page, as it is stored; nothing is executed.

The pages work from the file system and ask no other machine for anything. Open _docs/index.html.
"""

import ast, base64, html, json, os, re, shutil, sys, tempfile
from pathlib import Path
import yaml
from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ["data", "model", "quality", "delivery", "serving", "monitoring"]
PROJECT_FILES = {"CONTRIBUTING.md": "How to change it", "CHANGELOG.md": "What changed"}


# Notebooks


def notebooks():
    "Every notebook of the project."
    found = sorted((ROOT / "nbs").rglob("*.ipynb"))
    return [path for path in found if not any(part.startswith((".", "_")) for part in path.relative_to(ROOT).parts)]


def read(path):
    "A notebook's cells as (kind, source, outputs)."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [(cell["cell_type"], "".join(cell["source"]), cell.get("outputs", [])) for cell in cells]


def title(path):
    "The first heading of a notebook."
    text = next(source for kind, source, _ in read(path) if kind == "markdown")
    return text.splitlines()[0].lstrip("# ").strip()


def module(path):
    "The library module that a notebook exports, if any."
    found = re.search(r"^#\|\s*default_exp\s+(\S+)", "\n".join(source for _, source, _ in read(path)), re.M)
    return found and f"cd4ml_nb.{found[1]}".removesuffix(".__init__")


# What is exported, by its own comments


def words(text):
    "A comment as Markdown shows it in a table."
    return html.escape(text, quote=False).replace("|", "&#124;").replace("*", "\\*")


def comment(lines, line):
    "The comment at the end of a line."
    found = re.search(r"\s#\s(.*)$", lines[line - 1])
    return found[1] if found else ""


def parameters(function, lines):
    "A table of a function's parameters and of what it returns."
    args = function.args
    plain = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + args.defaults
    known = [(arg.arg, arg, default) for arg, default in zip(plain, defaults)]
    known += [(f"*{args.vararg.arg}", args.vararg, None)] if args.vararg else []
    known += [(arg.arg, arg, default) for arg, default in zip(args.kwonlyargs, args.kw_defaults)]
    rows = [
        (name, arg.annotation, default, comment(lines, (default or arg).end_lineno))
        for name, arg, default in known
        if name != "self"
    ]
    if function.returns:
        rows.append(("returns", function.returns, None, comment(lines, function.returns.end_lineno)))
    return table(rows)


def table(rows):
    "A Markdown table of names, types, defaults and comments."
    if not rows:
        return ""
    code = lambda node: f"`{ast.unparse(node)}`" if node else ""
    body = [f"| `{name}` | {code(kind)} | {code(default)} | {words(said)} |" for name, kind, default, said in rows]
    return "\n".join(["| | type | default | |", "|:--|:--|:--|:--|", *body])


def about(node, lines):
    "What stands above the code of one exported function or class."
    said = (ast.get_docstring(node) or "").replace("\n", "  \n")
    if isinstance(node, ast.FunctionDef):
        return f"### {node.name}\n\n{said}\n\n{parameters(node, lines)}\n"
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
    methods = [n for n in node.body if isinstance(n, ast.FunctionDef)]
    start = next((m for m in methods if m.name == "__init__"), None)
    given = [(ast.unparse(f.target), f.annotation, f.value, comment(lines, f.end_lineno)) for f in fields]
    parts = [f"### {node.name}", said, parameters(start, lines) if start else table(given)]
    public = [m for m in methods if not m.name.startswith("_")]
    parts += [f"- `{m.name}({ast.unparse(m.args)})`: {ast.get_docstring(m) or ''}" for m in public]
    return "\n\n".join(parts) + "\n"


def public(source):
    "The public functions and classes that a cell defines."
    return [
        node
        for node in ast.parse(source).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    ]


# A notebook as a page


def fenced(text, kind):
    "A block of code or of output."
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}{kind}\n{text.rstrip()}\n{fence}"


def folded(name, text):
    "A block that is closed until the reader opens it."
    inside = "\n".join(f"    {line}" if line else "" for line in text.splitlines())
    return f'<div markdown data-search-exclude>\n\n??? quote "{name}"\n\n{inside}\n\n</div>'


def code_page(source, exported):
    "A code cell: what it exports is told first, its code is folded away."
    shown = "\n".join(line for line in source.splitlines() if not line.startswith("#|")).strip("\n")
    if not exported:
        return fenced(shown, "python")
    lines = source.splitlines()
    said = [about(node, lines) for node in public(source)]
    only_imports = all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.parse(source).body)
    return "\n".join([*said, folded("Imports" if only_imports else "Code", fenced(shown, "python"))])


def output_page(output, place, folder, source, docs):
    "One stored output; a picture becomes a file beside the page."
    if output["output_type"] == "stream":
        return fenced("".join(output["text"]), "{ .text .output }")
    data = {kind: "".join(value) for kind, value in output.get("data", {}).items() if isinstance(value, (str, list))}
    for kind, suffix in (("image/svg+xml", "svg"), ("image/png", "png")):
        if kind in data:
            name = f"{place}.{suffix}"
            content = data[kind].encode() if suffix == "svg" else base64.b64decode(data[kind])
            (folder / name).write_bytes(content)
            return f"![]({name})"
    if "text/html" in data:
        return '<div class="output">' + re.sub(r"\n\s*\n", "\n", data["text/html"].strip()) + "</div>"
    if "text/markdown" in data:
        return prose(data["text/markdown"], source, docs)
    return fenced(data.get("text/plain", ""), "{ .text .output }")


def prose(text, source, docs):
    "Markdown of a cell: lists stand apart, links lead to pages."
    text = re.sub(r"^(?![-*>|#\d ]|\s*$)(.+)\n(?=(?:[-*]|\d+\.) )", r"\1\n\n", text, flags=re.M)
    pieces = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.S)
    link = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")
    pieces[::2] = [link.sub(lambda m: f"{m[1]}({linked(m[2], source, docs)})", piece) for piece in pieces[::2]]
    return "".join(pieces)


def linked(target, source, docs):
    "Where a link of a file of the project leads in the documentation; the file goes along when it is no page."
    if re.match(r"\w+:|#", target):
        return target
    path, _, anchor = target.partition("#")
    file = (source.parent / path).resolve()
    if source.parent.name == "stages" and not file.exists():
        file = ROOT / "reports" / path  # a stage's notebook is read in reports/
    if not file.exists() and file.parent != ROOT / "reports":
        sys.exit(f"{source.relative_to(ROOT)} links to {target}, which is not there.")
    page = page_of(file)
    if file.is_file() and page.suffix != ".md" and file.parent != ROOT / "reports":
        (docs / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, docs / page)
    here = page_of(source).parent
    return Path(os.path.relpath(page, here)).as_posix() + (f"#{anchor}" if anchor else "")


def page_of(file):
    "A file's place in the documentation."
    inside = file.relative_to(ROOT / "nbs") if file.is_relative_to(ROOT / "nbs") else file.relative_to(ROOT)
    if file.parent == ROOT / "reports" and not file.exists():
        return Path("reports.md")
    return inside.with_suffix(".md") if file.suffix == ".ipynb" and file.is_relative_to(ROOT / "nbs") else inside


def write_page(path, docs):
    "One notebook as a Markdown page."
    target = docs / page_of(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    parts = []
    for number, (kind, source, outputs) in enumerate(read(path)):
        if kind == "markdown":
            parts.append(prose(source, path, docs))
        elif kind == "code" and source.strip() and not source.startswith(("#| hide", "#| default_exp")):
            parts.append(code_page(source, re.match(r"#\|\s*export\b", source)))
            parts += [output_page(o, f"{path.stem}-{number}", target.parent, path, docs) for o in outputs]
    if library := module(path):
        parts.insert(1, f"`{library}`")
    target.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


# Pages about all of them


def write_api(docs):
    "Every public name by module, with its sentence and a link."
    parts = ["# API\n\nEvery public name of the library. The pages show parameters, code and examples."]
    for path in notebooks():
        nodes = [
            node for kind, source, _ in read(path) if re.match(r"#\|\s*export\b", source) for node in public(source)
        ]
        if not nodes:
            continue
        page = page_of(path).as_posix()
        parts.append(f"## {module(path)}\n")
        for node in nodes:
            said = (ast.get_docstring(node) or "").splitlines()
            parts.append(f"- [`{node.name}`]({page}#{node.name.lower()}): {said[0] if said else ''}")
    (docs / "api.md").write_text("\n".join(parts).replace("\n## ", "\n\n## ") + "\n", encoding="utf-8")


def write_reports(docs):
    "The executed notebooks of the last run, as they are."
    reports = sorted((ROOT / "reports").glob("*.html"))
    said = ["# Reports of the last run\n"]
    if not reports:
        said.append("There was no run yet: `make pipeline` makes them, and `make docs` takes them along.")
    for path in reports:
        name = re.search(r"<title>(.*?)</title>", path.read_text(encoding="utf-8"), re.S)
        (docs / "reports").mkdir(exist_ok=True)
        shutil.copy(path, docs / "reports" / path.name)
        said.append(f"- [{name[1].strip() if name else path.stem}](reports/{path.name})")
    (docs / "reports.md").write_text("\n".join(said) + "\n", encoding="utf-8")


def navigation():
    "The sidebar, by room in reading order."
    pages = lambda folder: [{title(p): page_of(p).as_posix()} for p in notebooks() if p.parent.name == folder]
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    at = {name: number for number, name in enumerate(stages)}
    ordered = sorted((ROOT / "nbs" / "stages").glob("*.ipynb"), key=lambda p: at.get(p.stem, 99))
    floor = [{p.stem: page_of(p).as_posix()} for p in notebooks() if p.parent == ROOT / "nbs" and p.stem != "index"]
    sections = [
        {"Start": "index.md"},
        {"Guides": pages("guides")},
        {"Ground floor": floor},
        *({f"{room.capitalize()}": pages(room)} for room in ROOMS),
        {"Apps": pages("apps")},
        {"Command line": pages("cli")},
        {"Stages": [{title(p): page_of(p).as_posix()} for p in ordered]},
        {"Benchmarks": pages("benchmarks")},
        {"API": "api.md"},
        {"Reports of the last run": "reports.md"},
        {"Project": [{name: file} for file, name in PROJECT_FILES.items()]},
    ]
    return [section for section in sections if all(section.values())]


# The site

STYLE = """
.md-typeset h1 + blockquote { border: 0; padding: 0; margin-top: -.8em; font-size: 1.05em; }
.md-typeset div.output { overflow-x: auto; font-size: .72rem; }
.md-typeset .output table { border-collapse: collapse; }
.md-typeset .output :is(td, th) { padding: .2rem .6rem; border-bottom: 1px solid #dde3ea; text-align: right; }
.md-typeset .output.highlight code { background: #fff; border-left: 3px solid #dde3ea; }
.md-typeset table:not([class]) { font-size: .7rem; }
.md-typeset h3 { font-family: var(--md-code-font-family); font-size: 1rem; }
.md-typeset img { max-height: 40rem; }
"""

# Browsers refuse workers from the file system, and the search is one: there, its script runs in a hidden frame instead.
SEARCH = """
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe"), waiting = []
      let ready = false
      frame.hidden = true
      const answer = `<script>postMessage = said => parent.postMessage(said, "*")</script>`
      frame.srcdoc = `${answer}<script src="${url}"></script>`
      frame.onload = () => { ready = true; waiting.forEach(ask) }
      const ask = asked => postMessage.call(frame.contentWindow, asked, "*")  // the frame's own now answers
      this.postMessage = asked => ready ? ask(asked) : waiting.push(asked)
      this.terminate = () => frame.remove()
      addEventListener("message", event => {
        if (event.source !== frame.contentWindow) return
        const said = new MessageEvent("message", { data: event.data })
        this.dispatchEvent(said)
        this.onmessage?.(said)
      })
      document.body.append(frame)
    }
  }
}
"""

EXTENSIONS = ["admonition", "attr_list", "md_in_html", "pymdownx.details", "pymdownx.superfences", "pymdownx.highlight"]


def configuration(docs, site):
    "What mkdocs needs to know: no fonts, icons or scripts from elsewhere."
    features = ["navigation.indexes", "navigation.footer", "navigation.prune", "toc.follow", "search.highlight"]
    return {
        "site_name": "cd4ml_nb",
        "docs_dir": str(docs),
        "site_dir": str(site),
        "theme": {"name": "material", "font": False, "features": features, "palette": {"primary": "indigo"}},
        "plugins": ["search", "offline"],
        "markdown_extensions": ["tables", {"toc": {"permalink": True, "toc_depth": 3}}, *EXTENSIONS],
        "extra": {"generator": False, "polyfills": ["assets/iframe-worker.js"]},
        "extra_css": ["assets/cd4ml.css"],
        "nav": navigation(),
        "use_directory_urls": False,
        "validation": {"nav": {"omitted_files": "ignore"}, "links": {"anchors": "warn"}},
    }


def write_docs(
    site,  # Folder to write; replaced as a whole
):
    "The whole documentation as a folder of pages."
    with tempfile.TemporaryDirectory() as scratch:
        docs = Path(scratch) / "docs"
        (docs / "assets").mkdir(parents=True)
        (docs / "assets/cd4ml.css").write_text(STYLE, encoding="utf-8")
        (docs / "assets/iframe-worker.js").write_text(SEARCH, encoding="utf-8")
        for path in notebooks():
            write_page(path, docs)
        for name in PROJECT_FILES:
            (docs / name).write_text(
                prose((ROOT / name).read_text(encoding="utf-8"), ROOT / name, docs), encoding="utf-8"
            )
        write_reports(docs)
        write_api(docs)
        settings = Path(scratch) / "mkdocs.yml"
        settings.write_text(yaml.safe_dump(configuration(docs, site), sort_keys=False), encoding="utf-8")
        build(load_config(str(settings), strict=True))


if __name__ == "__main__":
    write_docs(ROOT / "_docs")
    print(f"Documentation: {ROOT / '_docs' / 'index.html'}")
