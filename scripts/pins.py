"""Print the entries of requirements.lock that the library needs with some extras: scripts/pins.py serve"""

import re, sys
from importlib.metadata import requires
from pathlib import Path
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"


def needed(
    extras,  # Of the library, such as ["serve"]
):
    "Names of all distributions behind them, by what those that are installed here declare."
    seen, todo = set(), [("cd4ml-nb", extra) for extra in ("", *extras)]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for wanted in map(Requirement, requires(name) or []):
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(wanted.name), extra) for extra in ("", *wanted.extras)]
    return {name for name, _ in seen} - {"cd4ml-nb"}


def pins(
    names,  # Of distributions
):
    "Their entries in the lock."
    entries = re.findall(r"^[a-z0-9].*(?:\n +.*)*", LOCK.read_text(encoding="utf-8"), re.M)
    return [entry for entry in entries if canonicalize_name(re.match(r"[\w.-]+", entry)[0]) in names]


if __name__ == "__main__":
    print("\n".join(pins(needed(sys.argv[1:]))))
