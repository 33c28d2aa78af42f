"""The review page in a real browser, used as a reviewer would; what it does is compared with the log of releases."""

import pytest
import serving
from small_registry import add_version, make_project

SCRIPT = "<img src=x onerror=alert(1)><script>alert(2)</script>"
FIRST, SECOND, BAD = "gradient_boosting-aaaaaaaa", "gradient_boosting-bbbbbbbb", "gradient_boosting-cccccccc"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    "Two versions that passed the gate (one with a hostile slice name), and one that did not."
    if not (serving.PROJECT / "data" / "model" / "forecaster.json").is_file():
        pytest.skip("there is no model in data/model: run `make pipeline` first")
    root = make_project(tmp_path_factory.mktemp("review") / "project")
    add_version(root, BAD, 1, passed=False)
    add_version(root, FIRST, 2, slice_name=SCRIPT)
    return root


@pytest.fixture(scope="module")
def address(project, chromium):
    with serving.serve(project, "review.ipynb", serving.APPS / "share" / "review") as url:
        serving.warm(url)
        yield url


class Reviewer(serving.Watched):
    "One reviewer's page."

    def __init__(self, chromium, address, **context):
        super().__init__(chromium, address, ".cd-standing p", ["sandboxed"], **context)
        self.read = self.page.frame_locator(".cd-frame iframe").first

    def fill(self, name, reason):
        self.page.get_by_label("Your name").fill(name)
        self.page.get_by_label("Your reason").fill(reason)

    def click(self, button):
        self.page.get_by_role("button", name=button, exact=True).click()

    def pick(self, version):
        box = self.page.get_by_label("Model", exact=True)
        box.click()
        box.fill(version)
        self.page.locator(".cd-picker ul:not([hidden]) li[role=option]").first.click()
        self.shows(version, ".cd-standing")


@pytest.fixture
def visit(chromium, address):
    "visit(query, width=…, height=…): a watched page of one's own, checked and closed when the test ends."
    with serving.visits(Reviewer, chromium, address) as go:
        yield go


@pytest.fixture(scope="module")
def v(chromium, address):
    "One visit that the tests share, as a reviewer goes on in one page."
    one = Reviewer(chromium, address)
    yield one
    one.close()


def acts(root):
    from cd4ml_nb.delivery.acts import read_log

    return [(act["act"], act["model_version"], act["by"], act["reason"], act["overridden"]) for act in read_log(root)]


def test_the_whole_evidence_stands_on_the_page(v, project, screenshots):
    "What waits is shown first; the page says what the gate found, and nothing in it runs."
    v.shows("No model is live yet", ".cd-standing")
    v.shows(f"{FIRST}: It is undecided; the gate let it pass", ".cd-standing")
    v.read.get_by_text("The gate lets it pass: 2 checks passed.").wait_for()
    for title in (
        "What the gate found",
        "Beside the champion",
        "Where it differs most",
        "In pictures",
        "What it goes by",
        "What changed in the data",
        "Model card",
    ):
        assert v.read.get_by_role("heading", name=title).count() == 1, title
    assert v.read.locator("script").count() == 0 and v.read.locator("img[src=x]").count() == 0
    assert v.read.get_by_text("<script>alert(2)</script>").count() >= 1
    assert v.read.locator("figure img").count() >= 3
    high = v.page.evaluate("document.querySelector('.cd-frame iframe').offsetHeight")
    assert high > 2000, f"the page inside is cut off at {high} pixels"
    v.page.screenshot(path=screenshots / "review.png", full_page=True)
    assert v.page.title() == f"Review of {FIRST}" and v.page.url.endswith(f"?version={FIRST}")


def test_the_facets_page_runs_but_cannot_reach_out(v):
    v.click("Errors by groups of stores")
    v.page.frame_locator(".cd-frame iframe[sandbox='allow-scripts']").get_by_text("the overview ran").wait_for()
    assert v.page.title() == f"Review of {FIRST}"


def test_a_name_and_a_reason_are_compulsory(v, project):
    v.click("Approve")
    v.told("Say who you are")
    v.fill("Ana", "   ")
    v.click("Reject")
    v.told("Say why")
    assert acts(project) == []


def test_what_the_gate_refused_is_refused_here_too(v, project):
    "The same refusal as at the command line; then a rejection for real, with hostile text in it."
    v.pick(BAD)
    v.read.get_by_text("The gate stops it: 1 of 2 checks failed.").wait_for()
    v.fill("Ana", "let me")
    v.click("Approve")
    v.told("the gate refused it")
    assert acts(project) == []
    v.fill(SCRIPT, SCRIPT)
    v.click("Reject")
    v.told("is rejected. What is live did not change.")
    v.shows(SCRIPT, ".cd-acts")
    assert v.page.locator(".cd-page img, .cd-page script").count() == 0
    assert acts(project) == [("reject", BAD, SCRIPT, SCRIPT, False)]


ORDER = """(window.order = []) && ["cd-form .cd-notice", "cd-frame"].forEach(name =>
    new MutationObserver(() => window.order.push(name)).observe(
        document.querySelector("." + name), { childList: true, subtree: true, characterData: true }))"""


def test_approve_and_put_live(v, project):
    "Approved, then live: in the log, in the state, on the page."
    from cd4ml_nb.delivery.state import state

    v.pick(FIRST)
    v.fill("Prüferin", "better on fresh food")
    v.click("Approve")
    v.shows(f"{FIRST} is approved. It is not live yet", ".cd-notice")
    assert state(project)["champion"] is None and acts(project)[-1] == (
        "approve",
        FIRST,
        "Prüferin",
        "better on fresh food",
        False,
    )
    assert not v.page.get_by_role("button", name="Approve", exact=True).is_visible()
    v.fill("Prüferin", "the team agreed")
    v.page.evaluate(ORDER)
    v.click("Put live")
    v.shows(f"{FIRST} is live now", ".cd-notice")
    v.shows("released by Prüferin", ".cd-standing")
    assert state(project)["champion"]["model_version"] == FIRST
    v.read.get_by_text("This is the model that is live now").wait_for()
    order = v.page.evaluate("window.order")
    assert order[0] == "cd-form .cd-notice" and "cd-frame" in order, (
        f"the page said what was done only after it was made: {order}"
    )
    assert not v.page.get_by_role("button", name="Reject", exact=True).is_visible()


def test_the_next_candidate_stands_beside_the_champion(v, project):
    "A version that was judged against another champion is told so and refused; an override stays visible."
    add_version(project, SECOND, 3, champion=None)
    v.pick(BAD)  # the list is read anew
    v.pick(SECOND)
    v.shows(f"{SECOND}: It is undecided", ".cd-standing")
    v.read.get_by_text(f"It would replace {FIRST}.").wait_for()
    v.read.get_by_text("have it judged again (make gate)").first.wait_for()
    v.fill("Bo", "looks fine")
    v.click("Approve")
    v.shows("judge it again", ".cd-notice")
    v.page.get_by_label("Although something speaks against it").check(force=True)
    v.fill("Bo", "we know")
    v.click("Approve")
    v.shows(f"{SECOND} is approved", ".cd-notice")
    v.shows("against the gate", ".cd-acts")
    assert acts(project)[-1] == ("approve", SECOND, "Bo", "we know", True)


def test_a_share_is_given_and_taken_by_two_clicks(v, project, screenshots):
    "What it does is said before it is done; it goes through the log, as at the command line."
    from cd4ml_nb.delivery.state import state

    before = acts(project)
    v.fill("Bo", "is it better?")
    v.page.get_by_label("Share of the units, %").fill("a fifth")
    v.click("Give it this share")
    v.shows("give a number of percent from 0 to 100", ".cd-notice")
    v.page.get_by_label("Share of the units, %").fill("20")
    v.click("Give it this share")
    v.shows(f"{SECOND} is to answer 20% of the stores instead of the live model", ".cd-notice")
    v.page.screenshot(path=screenshots / "review-share.png")
    v.page.set_viewport_size({"width": 390, "height": 844})
    assert v.page.evaluate("document.documentElement.scrollWidth") <= 390
    v.page.screenshot(path=screenshots / "review-share-phone.png")
    v.page.set_viewport_size({"width": 1280, "height": 900})
    assert acts(project) == before
    v.click("Give it this share")
    v.shows(f"{SECOND} is a challenger now, with a share of 20%", ".cd-notice")
    v.shows("with a share of 20%", ".cd-acts")
    v.shows("It is held against the live model from the first night on", ".cd-tried")
    before = acts(project)
    v.fill("Bo", "let it answer all")
    v.click("Put live")
    v.shows("is to answer everybody instead of the live model, at once", ".cd-notice")
    assert acts(project) == before
    assert [(held["model_version"], held["share"]) for held in state(project)["beside"]] == [(SECOND, 0.2)]
    v.fill("Bo", "seen enough")
    v.click("Take it off")
    v.shows("is to be taken off", ".cd-notice")
    v.click("Take it off")
    v.shows(f"{SECOND} is taken off", ".cd-notice")
    assert state(project)["beside"] == [] and acts(project)[-1][0] == "retire"


@pytest.mark.prove
def test_wrong_link_and_phone(visit, project, screenshots):
    v = visit("?version=" + SCRIPT.replace("<", "%3C").replace(">", "%3E").replace(" ", "%20"), width=390, height=844)
    v.shows("There is no registered model", ".cd-notice")
    assert v.page.locator(".cd-page img, .cd-page script").count() == 0
    v.pick(BAD)
    assert v.page.evaluate("document.documentElement.scrollWidth") <= 390
    v.page.screenshot(path=screenshots / "review-phone.png")


def test_a_tampered_log_stops_everything(v, project):
    "The page says so, and nothing can be decided."
    log = project / "reports" / "releases.jsonl"
    true, before = log.read_bytes(), acts(project)
    try:
        log.write_bytes(true.replace("Prüferin".encode(), b"Eve"))
        v.fill("Eve", "because")
        v.click("Put live")
        v.shows("is not what was written", ".cd-notice")
    finally:
        log.write_bytes(true)
    assert acts(project) == before


@pytest.mark.prove
def test_an_empty_registry_is_a_sentence(visit, project):
    kept = [path for path in (project / "data" / "registry", project / "reports" / "releases.jsonl") if path.exists()]
    for path in kept:
        path.rename(path.with_name(f"{path.name}-away"))
    try:
        v = visit(f"?version={FIRST}")
        v.shows("No model is registered yet", ".cd-notice")
        assert not v.page.get_by_role("button", name="Approve", exact=True).is_visible()
    finally:
        for path in kept:
            path.with_name(f"{path.name}-away").rename(path)
