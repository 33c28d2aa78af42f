# Every command of the project. `make` alone explains them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:
.PHONY: help run test test-beside test-pipeline test-browser check prove prove-others prove-browser spark pipeline gate release dashboard review monitor curate serve mlflow night replay learn lab bench deliver image night-image docs readme tidy hooks lock clean

PORT ?= 8866
REVIEW_PORT ?= 8867
SERVE_PORT ?= 8868
MONITOR_PORT ?= 8869
CURATE_PORT ?= 8870
MLFLOW_PORT ?= 5000
# On the command line, PORT is meant for the page that is asked for, whichever it is.
ifeq ($(origin PORT),command line)
REVIEW_PORT := $(PORT)
SERVE_PORT := $(PORT)
MONITOR_PORT := $(PORT)
CURATE_PORT := $(PORT)
MLFLOW_PORT := $(PORT)
endif
TESTS ?= test
# Where a build server runs them, what took long is told, as there is no other way to know.
PYTEST = python -m pytest --quiet $(if $(CI),--durations 40)
TWO = -n 2 --dist worksteal
BESIDE = -j 2 $(if $(filter output-sync,$(.FEATURES)),-O)
CHECKED = --ignore tests/code/test_house.py --ignore tests/code/test_notebooks.py
export PRODUCTION REASON CLUSTER
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONPATH :=
# Where it is set, as in many containers, each of hundreds of processes would compile anew what it imports.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONUTF8 := 1
export OMP_WAIT_POLICY := PASSIVE
export PYDEVD_DISABLE_FILE_VALIDATION := 1
export JUPYTER_PLATFORM_DIRS := 1

help:  ## Explain these commands
	@echo "Two commands do it all:"
	@echo "  make run        set up, run the pipeline, release the first model, serve the dashboard on http://127.0.0.1:$(PORT)"
	@echo "  make test       see that this machine runs it all (some 40 minutes)"
	@echo
	@echo "And one for each part:"
	@echo "  make pipeline   bring data, model and reports up to date; re-runs only what changed"
	@echo "  make dashboard  serve the dashboard (on another port: make dashboard PORT=9000; so do review, monitor, curate, serve and mlflow)"
	@echo "  make gate       judge the packaged model again, against the champion of now; fails when the gate does"
	@echo "  make review     serve the page on which a reviewer approves or rejects, on http://127.0.0.1:$(REVIEW_PORT)"
	@echo "  make monitor    serve the page of what each night found: as promised or not, drift, alerts, on http://127.0.0.1:$(MONITOR_PORT)"
	@echo "  make curate     serve the page of days that look wrong, on http://127.0.0.1:$(CURATE_PORT)"
	@echo "  make serve      answer other programs over HTTP from the live model, on http://127.0.0.1:$(SERVE_PORT)"
	@echo "  make mlflow     open MLflow's pages on the experiments, on http://127.0.0.1:$(MLFLOW_PORT)"
	@echo "  make deliver    walk the whole road to a temporary production folder: test, reproduce, gate, register, approve, deploy"
	@echo "  make image      build a container image that answers from what is live (needs buildah and mmdebstrap)"
	@echo "  make night-image  build the one that runs the nights of a project (some 1.1 GB)"
	@echo "  make docs       write _docs/index.html: all there is to read, with a search; works offline"
	@echo "  make night      bring the next day's sales in, and put the coming days' forecasts live"
	@echo "  make replay     live through nights one after the other: make replay NIGHTS=31"
	@echo "  make learn      let what came since the live model was made become a new candidate (REASON=\"...\" where only you call for it)"
	@echo "  make lab        open JupyterLab with the project's kernel"
	@echo "  make prove      the long proofs: every kill point, queues, Spark, remote tables, many visitors"
	@echo "  make bench      compare with mlforecast + LightGBM, DuckDB, pandas, Spark; results in reports/benchmarks (one of them: make bench BENCH=07)"
	@echo "  make check      are the notebooks clean, and library and README in step with them?"
	@echo "  make tidy       make them so: export the library, clean the notebooks, write README.md"
	@echo "  make spark      install what the engine 'spark' needs (guide nbs/guides/05_scale_out.ipynb)"
	@echo "  make hooks      run 'make check' before each git commit"
	@echo "  make lock       update requirements.lock to the newest versions that settings.ini allows"
	@echo "  make clean      remove .venv and what 'make run' makes again; says what before it does"
	@echo
	@echo "At the command line: .venv/bin/cd4ml --help"

# Set-up is done again only when what it depends on changed, or the folder was moved.
ifneq ($(shell cat .venv/ready 2>/dev/null),$(CURDIR))
.PHONY: .venv/ready
endif
.venv/ready: requirements.lock settings.ini setup.py pyproject.toml scripts/setup.sh
	@scripts/setup.sh

run: pipeline release dashboard  ## Everything

pipeline: .venv/ready
	@cd4ml data fetch
	@cd4ml pipeline
	@cd4ml deploy settle
	@cd4ml report

# The champion may have changed since the gate compared the model with it.
gate: .venv/ready
	@cd4ml gate --again

# What params.yaml lets go live without a person: the first model, as it comes.
release: .venv/ready
	@cd4ml deploy auto

review: .venv/ready
	@cd4ml review --port $(REVIEW_PORT)

monitor: .venv/ready
	@cd4ml monitor page --port $(MONITOR_PORT)

curate: .venv/ready
	@cd4ml curate --port $(CURATE_PORT)

serve: .venv/ready
	@cd4ml serve --port $(SERVE_PORT)

mlflow: .venv/ready
	@cd4ml mlflow --port $(MLFLOW_PORT)

dashboard: .venv/ready
	@cd4ml dashboard --port $(PORT)

# Jupyter refuses root unless it is told that this is meant; in a container it is.
lab: .venv/ready
	@PYTHONWARNINGS=ignore::DeprecationWarning:traitlets.traitlets jupyter lab --log-level=WARN \
		$(if $(filter 0,$(shell id -u)),--allow-root) --ServerApp.root_dir=. \
		--ServerApp.tornado_settings="{'ws_ping_timeout': 30000}" nbs/index.ipynb

bench: .venv/ready
	@cd4ml bench $(BENCH)

# The day after last night's; what is live knows its sales from then on.
night: .venv/ready
	@cd4ml night

# What production taught becomes a candidate: make learn, or make learn REASON="the spring range is on the shelves"
learn: .venv/ready
	@if [ -n "$$REASON" ]; then cd4ml learn --reason "$$REASON"; else cd4ml learn; fi
	@cd4ml report

# Live through some nights, one after the other: make replay NIGHTS=31
replay: .venv/ready
	@cd4ml night --nights $(or $(NIGHTS),7)

# Two at a time: the pipeline (the real default data), then the browser and the tests that need its run; beside them all others.
test: check
	@$(MAKE) --no-print-directory $(BESIDE) WHOLE=1 test-beside test-browser test-pipeline

test-beside: .venv/ready
	@$(PYTEST) -m "not pipeline and not prove" $(TWO) tests --ignore tests/app $(CHECKED)

test-pipeline: .venv/ready $(if $(WHOLE),pipeline)
	@$(PYTEST) -m "pipeline and not prove" $(TWO) $$(grep -rl --include='test_*.py' --exclude-dir app 'mark\.pipeline' tests)

test-browser: .venv/ready $(if $(WHOLE),pipeline)
	@$(PYTEST) -m "not prove" tests/app

# What takes long: every kill point, the queue of experiments, Spark, remote tables, browser loads.
prove: pipeline
	@$(MAKE) --no-print-directory $(BESIDE) prove-others prove-browser

prove-others: .venv/ready
	@$(PYTEST) -m prove $(TWO) tests --ignore tests/app

prove-browser: .venv/ready
	@$(PYTEST) -m prove tests/app

check: .venv/ready
	@$(PYTEST) $(TWO) tests/code/test_house.py tests/code/test_notebooks.py

# The steps of ci/cd4ml.gocd.yaml and .github/workflows, here. Production is a temporary folder, or PRODUCTION=folder.
# TESTS=check runs the short tests instead of all; REASON="..." approves what waits, in your name. CLUSTER=context of kubectl
# lets that cluster run what is live then, once the image that `make image` builds of it lies where the cluster finds it.
deliver: .venv/ready
	@$(MAKE) --no-print-directory $(TESTS)
	@$(MAKE) --no-print-directory pipeline
	@$(MAKE) --no-print-directory gate
	@cd4ml deploy publish
	@cd4ml deploy pull
	@if [ -n "$$REASON" ]; then cd4ml release approve "$$(cat dist/version)" --reason "$$REASON"; else cd4ml deploy auto; fi
	@cd4ml deploy build
	@cd4ml deploy smoke dist/release
	@production="$${PRODUCTION:-$$(mktemp -d)/production}"; \
	cd4ml deploy deploy "$$production" || exit 1; \
	cd4ml deploy smoke "$$production/current" || { cd4ml deploy restore "$$production" --reason "the smoke test failed"; exit 1; }
	@if [ -n "$$CLUSTER" ]; then cd4ml deploy cluster --context "$$CLUSTER"; fi

# Without a shell, not root, some 360 MB; deploy/kubernetes runs it. IMAGE=name:tag names it.
image: .venv/ready
	@scripts/image.sh

# All that a night needs, and no project: that is a volume.
night-image: .venv/ready
	@scripts/image.sh night

# Every notebook as a page, as it is stored, and the reports of the last run; works offline. Open _docs/index.html.
docs: .venv/ready
	@python scripts/docs.py

readme: .venv/ready
	@python scripts/readme.py

tidy: .venv/ready
	@ruff format --quiet nbs tests scripts setup.py
	@nbdev_clean
	@nbdev_export
	@python scripts/dependencies.py
	@python scripts/ops.py
	@python scripts/readme.py

spark: .venv/ready
	@SPARK=1 scripts/setup.sh
	@java -version >/dev/null 2>&1 || echo "Spark needs Java 17 or newer too (Debian and Ubuntu: apt install openjdk-17-jre-headless)." >&2

hooks: .venv/ready
	@git config core.hooksPath scripts/hooks
	@echo "From now on 'git commit' runs 'make check' first. Undo with: git config --unset core.hooksPath"

lock: .venv/ready
	@uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --quiet --upgrade -o requirements.lock
	@echo "requirements.lock is up to date. The next make command installs it; run 'make test' before you commit it."

clean:
	@scripts/clean.sh
