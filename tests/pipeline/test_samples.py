"The numbers that README and help show are those of the recorded run."

import re, subprocess, sys
import pytest
from copies import ROOT, environment

pytestmark = pytest.mark.pipeline


def say(*command):
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=environment(ROOT), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def words(text):
    "Without how it is indented and aligned."
    return [line.split() for line in text.splitlines() if line.strip()]


def test_what_readme_shows_is_what_python_prints():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code, shown = re.search(r"```\n(from cd4ml_nb.*?)```\n\n((?:    [^\n]*\n)+)", readme, re.S).groups()
    assert words(say(sys.executable, "-c", code)) == words(shown)


def test_what_help_shows_is_what_the_command_says():
    shown = re.search(r"  cd4ml (forecast --item \S+ --store \S+ --date \S+)\n      (.*)\n", say("cd4ml", "--help"))
    assert shown[2] in say("cd4ml", *shown[1].split(), "--model", "data/model")
