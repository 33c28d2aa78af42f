"The delivery pipelines: in the tools' own formats, thin, and the same road in all of them and in the Makefile."

import json, re, shlex, subprocess, sys
import pytest, yaml
from copies import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
GOCD = ROOT / "ci" / "cd4ml.gocd.yaml"
SCHEMA = ROOT / "tests" / "delivery" / "gocd.schema.json"
# The road, as the commands that matter; what differs between the tools (how files travel, who commits) is left out.
MODEL_ROAD = ["make test", "make pipeline", "make gate", "cd4ml deploy publish"]
LEARN_ROAD = ["make .venv/ready", "cd4ml learn", "cd4ml deploy publish", "cd4ml deploy record"]
RELEASE_ROAD = [
    "cd4ml deploy pull",
    "cd4ml release approve",
    "cd4ml deploy build",
    "cd4ml deploy smoke",
    "cd4ml deploy deploy",
    "cd4ml deploy smoke",
    "cd4ml deploy restore",
]


def check(schema, *files):
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *schema, *map(str, files)], capture_output=True, text=True
    )


def gocd():
    return yaml.safe_load(GOCD.read_text())["pipelines"]


def github(name):
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())


def stages(pipeline):
    return [next(iter(stage.items())) for stage in pipeline["stages"]]


def jobs(name, stage):
    return stage["jobs"].items() if "jobs" in stage else [(name, stage)]


def gocd_commands(pipeline):
    "Every command line of a GoCD pipeline, in order."
    for name, stage in stages(pipeline):
        for _, job in jobs(name, stage):
            for task in job["tasks"]:
                if "exec" not in task:
                    continue
                words = [task["exec"]["command"], *task["exec"].get("arguments", [])]
                yield words[2] if words[:2] == ["/bin/sh", "-c"] else shlex.join(words)


def github_commands(workflow):
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            yield from (step.get("run") or "").splitlines()


def makefile_commands(target):
    "The commands of a target's recipe, one a line."
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", text, re.M)
    return re.split(r"[;\n]|&&|\|\||\{", found[1]) if found else []


def called(line):
    "The make targets and cd4ml commands in a line: `make test`, `cd4ml deploy pull`."
    line = (
        line.replace("$(MAKE) --no-print-directory", "make")
        .replace("$(MAKE)", "make")
        .replace(".venv/bin/cd4ml", "cd4ml")
    )
    for words in re.findall(r"\bmake ((?:[.\w/$()-]+ ?)+)", line):
        yield from (f"make {word}" for word in words.split())
    yield from (f"cd4ml {' '.join(words.split())}" for words in re.findall(r"\bcd4ml ((?:[a-z]+ ?){1,2})", line))


def road(lines, wanted):
    "The commands of the road that occur, in order, consecutive repetitions once."
    found = [call for line in lines for call in called(line) if call in wanted]
    return [call for i, call in enumerate(found) if i == 0 or call != found[i - 1]]


def test_github_workflows_keep_githubs_schema(tmp_path):
    assert [w.name for w in WORKFLOWS] == ["docs.yml", "learn.yml", "ml.yml", "release.yml"]
    done = check(["--builtin-schema", "vendor.github-workflows"], *WORKFLOWS)
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "bad.yml").write_text(WORKFLOWS[0].read_text().replace("runs-on:", "run-on:"))
    assert check(["--builtin-schema", "vendor.github-workflows"], tmp_path / "bad.yml").returncode


def test_gocd_keeps_the_plugins_documented_format():
    assert GOCD.name.endswith(".gocd.yaml"), "the plugin reads files that end so"
    done = check(["--schemafile", SCHEMA], GOCD)
    assert done.returncode == 0, done.stdout + done.stderr
    from jsonschema import Draft7Validator

    right_one = Draft7Validator(json.loads(SCHEMA.read_text()))
    for right, wrong in (
        ("approval:", "aproval:"),
        ("lock_behavior: unlockWhenFinished", "lock_behavior: sometimes"),
        ("arguments: [test]", "argument: [test]"),
        ("type: manual", "type: by hand"),
        ("run_if: failed", "run_if: broken"),
        ("format_version: 10", "format: 10"),
    ):
        assert right in GOCD.read_text()
        assert not right_one.is_valid(yaml.safe_load(GOCD.read_text().replace(right, wrong, 1))), (
            f"{wrong} was not noticed"
        )


def test_gocd_refers_only_to_what_is_there():
    "Dependencies and fetched files name a pipeline, stage, job and artefact that exist, upstream."
    pipelines = gocd()
    for name, pipeline in pipelines.items():
        names = [stage for stage, _ in stages(pipeline)]
        assert len(names) == len(set(names))
        upstream = {(m["pipeline"], m["stage"]) for m in pipeline["materials"].values() if "pipeline" in m}
        for other, stage in upstream:
            assert stage in dict(stages(pipelines[other]))
        for stage_name, stage in stages(pipeline):
            for job_name, job in jobs(stage_name, stage):
                for fetch in (task["fetch"] for task in job["tasks"] if "fetch" in task):
                    assert (fetch["pipeline"], fetch["stage"]) in upstream, fetch
                    source = dict(jobs(fetch["stage"], dict(stages(pipelines[fetch["pipeline"]]))[fetch["stage"]]))[
                        fetch["job"]
                    ]
                    kept = {
                        f"{a['build']['destination']}/{a['build']['source'].split('/')[-1]}"
                        for a in source["artifacts"]
                    }
                    assert fetch["source"] in kept, f"{fetch['source']} is not among the artefacts {kept}"
                kept = {a["build"]["destination"] for a in job.get("artifacts", [])}
                for tab in job.get("tabs", {}).values():
                    assert tab.split("/")[0] in kept, f"{stage_name}: the tab {tab} shows no artefact"


def test_a_person_approves_before_anything_is_built_or_deployed():
    "In GoCD a manual stage, in GitHub a protected environment; nothing after it runs without it."
    release = stages(gocd()["cd4ml-release"])
    manual = [name for name, stage in release if stage.get("approval") and stage["approval"]["type"] == "manual"]
    assert manual == ["approve"] and [name for name, _ in release].index("approve") < [
        name for name, _ in release
    ].index("build")
    job = github("release.yml")["jobs"]["release"]
    assert job["environment"] == "production" and job["needs"] == "candidate"
    before = "\n".join(step.get("run", "") for step in github("release.yml")["jobs"]["candidate"]["steps"])
    assert not re.search(r"release (approve|build|deploy|promote)", before)
    everything = GOCD.read_text() + "".join(w.read_text() for w in WORKFLOWS)
    assert "--override" not in everything and "release auto" not in everything, "a build server must not decide"


def test_the_same_road_in_gocd_github_and_make():
    assert road(gocd_commands(gocd()["cd4ml-model"]), MODEL_ROAD) == MODEL_ROAD
    assert road(github_commands(github("ml.yml")), MODEL_ROAD) == MODEL_ROAD
    assert road(gocd_commands(gocd()["cd4ml-release"]), RELEASE_ROAD) == RELEASE_ROAD
    assert road(github_commands(github("release.yml")), RELEASE_ROAD) == RELEASE_ROAD
    assert road(gocd_commands(gocd()["cd4ml-learn"]), LEARN_ROAD) == LEARN_ROAD
    assert road(github_commands(github("learn.yml")), LEARN_ROAD) == LEARN_ROAD
    local = [line.replace("$(TESTS)", "test") for line in makefile_commands("deliver")]
    assert road(local, MODEL_ROAD) == MODEL_ROAD, "make deliver"
    assert road(local, RELEASE_ROAD) == RELEASE_ROAD, "make deliver"


def test_learning_is_scheduled_starts_when_data_change_and_releases_nothing():
    learn = gocd()["cd4ml-learn"]
    assert learn["timer"]["spec"] and learn["materials"]["cd4ml"]["includes"] == ["data/corrections/*"]
    on = github("learn.yml")[True]  # YAML reads the word on as true
    assert on["schedule"] and on["push"]["paths"] == ["data/corrections/*"]
    for lines in (gocd_commands(learn), github_commands(github("learn.yml"))):
        said = "\n".join(lines)
        assert "learn --if-due" in said and not re.search(r"release |deploy (auto|deploy|build)", said)
    own = {"data/known/*", "data/corrections/*"}  # what learning commits, and looks at: no other pipeline starts by it
    assert own <= {*gocd()["cd4ml-model"]["materials"]["cd4ml"]["ignore"]}
    assert own <= {*github("ml.yml")[True]["push"]["paths-ignore"]}


def test_going_back_happens_only_on_failure():
    tasks = [
        task["exec"]
        for _, stage in stages(gocd()["cd4ml-release"])
        for task in stage["tasks"]
        if "exec" in task and "restore" in str(task)
    ]
    assert len(tasks) == 1 and tasks[0]["run_if"] == "failed"
    step = next(s for s in github("release.yml")["jobs"]["release"]["steps"] if "restore" in s.get("run", ""))
    assert "failure()" in step["if"] and "deploy.outcome" in step["if"]


ALL = [line for pipeline in gocd().values() for line in gocd_commands(pipeline)] + [
    line for w in WORKFLOWS for line in github_commands(github(w.name))
]


def test_every_command_exists():
    "Each make target is in the Makefile; each cd4ml command parses, with its options."
    from cd4ml_nb import cli

    targets = set(re.findall(r"^([.\w/-]+):(?!=)", (ROOT / "Makefile").read_text(), re.M))
    missing = {
        call
        for line in ALL
        for call in called(line)
        if call.startswith("make ") and call.removeprefix("make ") not in targets
    }
    assert not missing, missing
    for line in ALL:
        if "cd4ml " not in line:
            continue
        words = shlex.split(line.split("cd4ml ", 1)[1].replace('${VERSION:+--model "$VERSION"}', '--model "$VERSION"'))
        try:
            given = cli.command_parser(words[0]).parse_args(words)
        except SystemExit:
            pytest.fail(f"cd4ml does not know: {line}")
        assert given.function, line


def test_the_pipelines_are_thin():
    "They call make and cd4ml; the few other words bring files or names from one place to the next."
    allowed = "|".join(
        (
            r"\.venv/bin/cd4ml (release|deploy|learn) ",
            r"\.venv/bin/dvc pull --",
            r"make [.\w/]+$",
            r"git (config user\.|pull --ff-only\b)",
            r'echo "version=\$\(cat dist/version\)" >> ',
        )
    )
    for line in ALL:
        words = line.strip().strip("'").removeprefix('cd "$PROJECT" && ')
        assert re.match(allowed, words), f"not thin: {line}"
    longest = max(
        len((step.get("run") or "").strip().splitlines())
        for w in WORKFLOWS
        for job in github(w.name)["jobs"].values()
        for step in job["steps"]
    )
    assert longest <= 4


def test_nothing_that_somebody_typed_becomes_shell_code():
    "GitHub pastes ${{ … }} into the script before the shell reads it; so what was typed goes by the environment."
    for workflow in WORKFLOWS:
        for job in github(workflow.name)["jobs"].values():
            for step in job["steps"]:
                assert "${{" not in step.get("run", ""), f"{workflow.name}: {step}"
                assert "uses" not in step or re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|[0-9a-f]{40})", step["uses"]), step
    for name in ("PRODUCTION", "PROJECT", "REASON", "VERSION", "GO_TRIGGER_USER", "GITHUB_ACTOR"):
        for line in ALL:
            assert not re.search(rf'(?<!["/@\w])\${name}(?!["/@\w])', line), f"not quoted: {line}"
