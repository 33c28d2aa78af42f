"The dashboard of a place without a model, as `cd4ml dashboard` serves it, follows what is live in a store."

import os, shutil, signal, subprocess, sys, time
import psutil
import serving
from conftest import Visit
from waiting import PATIENCE, answers, free_port, wait_for
from cd4ml_nb.delivery.store import publish_live

COMMAND = [sys.executable, "-c", "from cd4ml_nb.start import main; raise SystemExit(main())", "dashboard", "--port"]


def test_the_dashboard_follows_a_store_and_its_helper_ends_with_it(chromium, tmp_path):
    root, elsewhere, port = serving.make_root(tmp_path / "project"), tmp_path / "elsewhere", free_port()
    url = f"file://{tmp_path / 'store'}"
    live = publish_live(root, url)
    elsewhere.mkdir()
    shutil.copy(serving.PROJECT / "params.yaml", elsewhere)
    (elsewhere / "nbs").symlink_to(serving.PROJECT / "nbs")
    own = {"CD4ML_ROOT": str(elsewhere), "CD4ML_LIVE": url, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    env = {**os.environ, **own, "PYTHONPATH": str(serving.PROJECT)}
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen([*COMMAND, str(port)], env=env, cwd=elsewhere, stdout=log, stderr=log)
    try:
        wait_for(lambda: answers(port), (tmp_path / "log").read_text, server)
        helper = next(one for one in psutil.Process(server.pid).children() if "keep_beside" in " ".join(one.cmdline()))
        visit = Visit(chromium, f"http://127.0.0.1:{port}/")
        visit.shows(live["model_version"], ".cd-model")
        serving.put_live(root, name="a-newer-one")
        publish_live(root, url)
        copy = next((tmp_path / "cache/cd4ml_nb").iterdir()) / "current/data/registry/a-newer-one"
        wait_for(copy.is_dir, (tmp_path / "log").read_text)
        visit.page.get_by_label("Off", exact=True).check(force=True)
        visit.shows("Another model is live now", ".cd-notice")
        visit.shows("a-newer-one", ".cd-model")
        (tmp_path / "store").rename(tmp_path / "away")
        ask = lambda: visit.page.evaluate("dispatchEvent(new Event('keyup'))")  # the page asks soon after each key
        said = lambda: [ask(), time.sleep(1.5), visit.page.locator(".cd-newer").inner_text()][2]
        wait_for(lambda: "The numbers here are of the last that could be brought." in said(), said)
        assert url in said() and visit.page.get_by_role("button", name="Show the new forecast").is_hidden()
        orders = serving.Watched(chromium, f"http://127.0.0.1:{port}/orders", ".cd-orders tr[data-item]", ("404",))
        orders.shows("The numbers here are of the last that could be brought.", ".cd-newer")
        orders.close()
        (tmp_path / "away").rename(tmp_path / "store")
        wait_for(lambda: not said().strip(), said)
        visit.close()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(PATIENCE)
    wait_for(lambda: not helper.is_running() or helper.status() == psutil.STATUS_ZOMBIE)
