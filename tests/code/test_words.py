"The project's own words: with the usual ones nothing is touched, and what the browser writes follows, too."

import re
import pytest
from copies import ROOT
from cd4ml_nb.words import USUAL, Wording, own_words, tell, words_of

OWN = {"item": "direction", "store": "office", "unit": "bicycle", "family": "kind", "sale": "count", "sell": "count"}


def test_the_words_as_they_come_touch_nothing():
    words, page = words_of(ROOT), '<p title="A store">A store sells a product &amp; 3 units.</p>'
    assert words.own == {} and words.names == ()
    assert words.html(page) is page and words(page) is page


def test_each_word_of_the_section_is_one_that_is_read():
    import yaml

    assert set(yaml.safe_load((ROOT / "params.yaml").read_text())["words"]) == set(USUAL)


def test_the_table_of_orders_asks_for_the_sentences_that_it_writes():
    from cd4ml_nb.apps.order_page import AROUND

    script = (ROOT / "nbs/apps/share/orders.js").read_text(encoding="utf-8")
    asked = re.findall(r'(?:say|shown)\("([^"]*)"\)', script)
    assert sorted(set(asked)) == sorted(AROUND)


@pytest.mark.parametrize("part", ['<i class="store">{}</i>', '<img alt="{}">', '<td data-title="{}">1</td>'])
def test_what_a_word_brings_is_escaped_wherever_it_stands(part):
    hostile = Wording({"store": '"><script>alert(1)</script>'})
    made = hostile.html(part.format("A store"))
    assert "<script>" not in made and "&lt;script&gt;" in made and '"><' not in made.replace('">A', "")


def test_names_of_the_data_stay_and_all_else_follows():
    words = Wording(own_words(OWN), ["The Unit Store", "Family & friends"])
    said = "The Unit Store: no unit of Family & friends in this store, an item of a family."
    assert words(said) == "The Unit Store: no bicycle of Family & friends in this office, a direction of a kind."
    assert words.html("<b>Family &amp; friends</b> of a family") == "<b>Family &amp; friends</b> of a kind"


def test_commands_for_planners_speak_in_the_projects_words(tmp_path, capsys, monkeypatch):
    "What is said, what is refused, and what people wrote, which stays; programs read the usual names."
    import shutil
    from cd4ml_nb.cli import main
    from cd4ml_nb.tiny import tiny_project

    root = tmp_path / "project"
    shutil.copytree(tiny_project("split"), root)
    with open(root / "params.yaml", "a") as params:
        params.write("\nwords: {item: direction, store: office, unit: bicycle, sale: count, sell: count}\n")
    monkeypatch.setenv("CD4ML_ROOT", str(root))
    add = "corrections add --kind stock_out --day 2017-08-01 --store 2 --item 101 --by Kim --why".split()

    def told(*words):
        code = main(list(words))
        return code, *capsys.readouterr()

    code, said, _ = told(*add, "the store was full of units")
    assert (
        code == 0
        and "office 2" in said
        and "1 direction in an office" in said
        and "the store was full of units" in said
    )
    code, said, _ = told("corrections", "list")
    assert re.match(r" *office +direction +", said) and "the store was full of units" in said
    code, _, error = told(*add, "again")
    assert code == 1 and "office 2" in error and "store 2" not in error
    code, said, error = told("monitor")
    assert not re.search(r"\b(stores?|products?|units?)\b", said + error), said + error
    code, said, _ = told("corrections", "list", "--json")
    assert '"store_nbr"' in said and "office" not in said


def test_one_night_of_several_refuses_in_the_projects_words(tmp_path, capfd, monkeypatch):
    "It is lived through in a copy of the process, which says itself what was wrong."
    from cd4ml_nb.cli import pipeline
    from cd4ml_nb.core import UserError

    (tmp_path / "params.yaml").write_text("words: {store: branch, sale: withdrawal}\n")
    monkeypatch.setenv("CD4ML_ROOT", str(tmp_path))

    def refused():
        raise UserError("The store holds no sale.")

    assert pipeline._forked(refused) == 1 and capfd.readouterr().err == "The branch holds no withdrawal.\n"


def test_no_sign_that_a_terminal_obeys_is_told(capsys):
    tell("A store\x1b[2J sells\u202e a unit.\nAnd another one.")
    assert capsys.readouterr().out == "A store [2J sells  a unit.\nAnd another one.\n"
