"The image that `make night-image` builds runs a night of a project that lies on a volume, and writes nowhere else."

import os, shutil
from pathlib import Path
import pytest
from containers import NEEDS, built, started
from copies import ROOT
from waiting import wait_for
from cd4ml_nb.delivery.nights import live_night
from cd4ml_nb.serving.live import load_champion
from cd4ml_nb.tiny import tiny_live

pytestmark = [pytest.mark.prove, NEEDS]
IMAGE, MOST_BYTES = "cd4ml_nb_night:test", 1_500_000_000


def files(folder):
    "Every file outside /tmp, /proc, /sys and /dev, with its size."
    kept = (
        path for path in folder.rglob("*") if path.relative_to(folder).parts[0] not in ("tmp", "proc", "sys", "dev")
    )
    return {
        str(path.relative_to(folder)): path.stat().st_size for path in kept if path.is_file() and not path.is_symlink()
    }


def test_a_night_of_a_project_on_a_volume(tmp_path):
    root = Path(shutil.copytree(tiny_live("2017-08-20"), tmp_path / "project"))
    shutil.copytree(ROOT / "nbs/stages", root / "nbs/stages")
    for path in [root, *root.rglob("*")]:
        os.chown(path, 10001, 10001)
    with built(IMAGE, root, "night") as (name, folder, config):
        before = files(folder)
        assert sum(before.values()) <= MOST_BYTES and config["User"].split(":")[0] == "10001"
        assert not any(path.rsplit("/", 1)[-1] in ("sh", "bash", "dash", "apt") for path in before)
        with started(name, config, tmp_path / "log", volumes={root: "/srv/project"}) as process:
            wait_for(lambda: process.poll() is not None, (tmp_path / "log").read_text)
        assert process.returncode == 0, (tmp_path / "log").read_text()
        assert files(folder) == before
    assert live_night(root)["day"] == "2017-08-21"
    assert load_champion(root).card["forecast_origin"] == "2017-08-21"
    assert (root / "reports/nights/2017-08-21.html").is_file()
