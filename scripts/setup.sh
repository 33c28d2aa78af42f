#!/bin/sh
# Make .venv from requirements.lock. Called by make whenever the lock or the set-up changed.
#   PYTHON=python3.12 scripts/setup.sh   takes that Python instead of the first suitable one
set -eu
cd "$(dirname "$0")/.."
PATH=${PATH#"$PWD/.venv/bin:"}  # make puts it first; the Python to set up with is another one
supported="3.11 3.12"

say() { echo "$*" >&2; }
fail() { say "$*"; exit 1; }

suits() {  # Is this command a Python of a supported version, with venv?
    "$1" -c "import sys, venv; sys.exit('%d.%d' % sys.version_info[:2] not in '$supported'.split())" 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        suits "$PYTHON" || fail "PYTHON=$PYTHON is not Python 3.11 or 3.12 (it says: $("$PYTHON" --version 2>&1 || true)). Name another one, such as: make PYTHON=/usr/bin/python3.11"
        echo "$PYTHON"; return
    fi
    for version in $supported; do
        for candidate in "python$version" python3 python; do
            if suits "$candidate" && [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = "$version" ]; then echo "$candidate"; return; fi
        done
        if command -v uv >/dev/null 2>&1 && found=$(uv python find --no-python-downloads "$version" 2>/dev/null) && suits "$found"; then echo "$found"; return; fi
    done
    fail "cd4ml_nb needs Python 3.11 or 3.12, and none is on this machine's path. Install one (Debian and Ubuntu: apt install python3.11 python3.11-venv; or: uv python install 3.11), or name it: make PYTHON=/path/to/python3.11"
}

git rev-parse --git-dir >/dev/null 2>&1 || fail "This folder is not a git repository, and DVC needs one. Clone the project with git, or run here: git init && git add . && git commit -m start"
python=$(find_python)
say "Setting up .venv with $("$python" --version) (about a minute the first time) ..."
if [ ! -x .venv/bin/python ] || ! suits .venv/bin/python || [ "$(cat .venv/made-in 2>/dev/null)" != "$PWD" ] || [ -n "${PYTHON:-}" ]; then
    rm -rf .venv
    if command -v uv >/dev/null 2>&1; then
        uv venv --quiet --python "$python" .venv
    else
        "$python" -m venv .venv || fail "Python's venv module failed. On Debian and Ubuntu: apt install python3-venv, then run make again."
    fi
    echo "$PWD" > .venv/made-in
fi
if command -v uv >/dev/null 2>&1; then uv=uv; else
    awk '/^[^ #]/ { mine = /^uv==/ } mine' requirements.lock > .venv/uv.lock
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock
    uv=.venv/bin/uv
fi
# Spark (300 MB) comes only when asked for: make spark
if [ "${SPARK:-}" = 1 ]; then cp requirements.lock .venv/wanted.lock; else
    awk '/^[^ #]/ { wanted = !/^(pyspark|py4j)==/ } wanted' requirements.lock > .venv/wanted.lock
fi
"$uv" pip install --quiet --python .venv/bin/python --require-hashes -r .venv/wanted.lock
"$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
# Kernels are started on this machine only; their start-up notice about encryption would stand above every report and dashboard,
# and what they say when they are stopped in the middle of something would end every Ctrl-C with a traceback.
mkdir -p .venv/etc/ipython
echo '{"IPKernelApp": {"log_level": "CRITICAL"}}' > .venv/etc/ipython/ipython_kernel_config.json
PYTHONDONTWRITEBYTECODE='' .venv/bin/python -W ignore scripts/compile.py
pwd > .venv/ready
say "Ready."
