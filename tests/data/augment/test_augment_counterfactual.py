"""The same case with another person: consistent, reversible where it should be, and silent where it must be."""

import csv
import os
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from attune.data.augment.counterfactual import Counterfactual
from attune.data.augment.swaps import _names
from attune.data.desk import Desk
from attune.data.steps import Context
from attune.records import Completion, Message, Record, Span

ROOT = Path(__file__).parents[3]
CLAIMS = ROOT / "examples" / "claims" / "train.csv"
WINOBIAS = Path(os.environ.get("ATTUNE_SHARED", ROOT.parent / "shared")) / "data" / "bias" / "winobias"


def pairs(text, *groups, label="x", pairs=(), **more):
    step = Counterfactual(Counterfactual.Config(groups=groups, pairs=pairs), Context())
    change = step.apply(Record("r", (Message("user", text),), label=label, **more), 0)
    return list(change.added) if change else []


def swapped(text, *groups, **more):
    found = pairs(text, *groups, **more)
    return found[0].text if found else None


@pytest.mark.parametrize(
    "before,after",
    [
        ("He said his back hurts him.", "She said her back hurts her."),
        ("I gave her the book.", "I gave him the book."),
        ("She hurt her back and paid her back.", "He hurt his back and paid him back."),
        ("Her back hurts; I saw her yesterday. It is hers.", "His back hurts; I saw him yesterday. It is his."),
        ("The car is his. His car.", "The car is hers. Her car."),
        ("Mr. Smith and Mrs. Jones met Miss Lee.", "Ms. Smith and Mr. Jones met Mr Lee."),
        ("Workers miss work.", None),
        ("HE IS HER FATHER.", "SHE IS HIS MOTHER."),
        ("He’s my uncle’s wife's son", "She's my aunt’s husband's daughter"),
        ("Hollis & Sons paid the man.", "Hollis & Sons paid the woman."),
        ("Hollis & Sons paid.", None),
        ("He or she signs his/her name.", None),
        ("His pregnant wife left.", None),
        ("The mandate of the human woman manager", "The mandate of the human man manager"),
        ("sheer heroism there", None),
    ],
)
def test_gender(before, after):
    assert swapped(before, "gender") == after


def test_a_name_changes_with_its_pronouns_and_stays_one_person_everywhere():
    one = Record(
        "r",
        (Message("system", "Help him."), Message("user", "Leon Ransom says he fell. Leon's wife Alice saw it.")),
        (Completion((Message("assistant", "Leon was seen by Alice, his wife."),)),),
        answer="Leon",
    )
    change = Counterfactual(Counterfactual.Config(groups=("gender",)), Context()).apply(one, 0)
    made = change.added[0]
    new, other = made.answer, made.prompt[1].content.split("husband ")[1].split()[0]
    assert _names()[new][0] == "woman" and _names()[other][0] == "man"
    assert made.prompt[1].content == f"{new} Ransom says she fell. {new}'s husband {other} saw it."
    assert made.completions[0].text == f"{new} was seen by {other}, her husband."
    assert made.prompt[0] == one.prompt[0] and made.meta == {
        "made_by": "counterfactual",
        "from": "r",
        "swapped": "gender",
    }


def test_names_of_another_origin_keep_their_gender():
    text = swapped("Brenda Ransom and Keith told brenda@example.com", "names")
    first, last, _, second = text.split()[:4]
    assert last == "Ransom" and text.endswith("brenda@example.com")
    for old, new in (("Brenda", first), ("Keith", second)):
        assert _names()[new][0] == _names()[old][0] and _names()[new][1] != _names()[old][1]


@pytest.mark.parametrize(
    "group,before,left,changed",
    [
        ("religion", "A Christian man prays in a church near Church Street with Christian Bale.",
         ["near Church Street with Christian Bale"], ["A Christian man", "in a church"]),
        ("ethnicity", "The white house of the black man. He is Asian.", ["The white house of the"],
         ["black man", "is Asian"]),
        ("ethnicity", "The white house has a black door and Chinese food.", None, []),
        ("disability", "The blind spot hit the blind customer.", ["The blind spot hit"], ["blind customer"]),
        ("age", "A 36-year-old nurse, aged 36, an elderly patient, 12 years old.", ["12 years old"], ["36", "elderly"]),
        ("age", "Born in 1980, aged 44.", None, []),
        ("age", "The 19-year-old student went to school.", None, []),
    ],
)  # fmt: skip
def test_other_groups_change_only_where_they_tell_of_people(group, before, left, changed):
    after = swapped(before, group)
    if left is None:
        assert after is None
    else:
        assert all(part in after for part in left) and not any(part in after for part in changed)


def test_spans_move_with_the_text():
    text = "Leon Ransom hurt his back."
    spans = (Span(0, 11, "PERSON"), Span(21, 25, "BODY"))
    made = pairs(text, "gender", label=spans)[0]
    assert [made.text[span.start : span.end] for span in made.label] == [made.text.split(" hurt")[0], "back"]
    assert made.text.endswith(" Ransom hurt her back.")


def test_a_label_that_names_the_group_or_a_tool_call_that_names_the_person_stops_it():
    assert pairs("He is here.", "gender", label="male_customer") == []
    assert pairs("He is here.", "gender", label=("a", "female")) == []
    assert len(pairs("He is here.", "gender", label="customer")) == 1
    call = Message("assistant", "", tool_calls=({"function": {"name": "f", "arguments": '{"who": "Leon"}'}},))
    one = Record("r", (Message("user", "Leon is here."),), (Completion((call,)),))
    assert Counterfactual(Counterfactual.Config(), Context()).apply(one, 0) is None


def test_own_pairs_go_both_ways():
    assert (
        swapped("From the Bronx to Queens, BRONX", pairs=(("Bronx", "Queens"),)) == "From the Queens to Bronx, QUEENS"
    )
    for wrong in ((("a", "b"), ("B", "c")), (("a", " "),)):
        with pytest.raises(ValidationError, match="pairs:"):
            Counterfactual.Config(pairs=wrong)


def test_each_group_gives_its_own_record_and_nothing_leaves_the_training_part(tmp_path):
    train = [Record("a", (Message("user", "Leon, aged 36, is a Muslim man."),), label="x")]
    groups = ("gender", "names", "religion", "age")
    desk = Desk([Counterfactual(Counterfactual.Config(groups=groups), Context())], tmp_path)
    parts = desk.run({"train": train, "test": [replace(train[0], id="t")]})
    assert [one.id for one in parts["test"]] == ["t"]
    made = [one for one in parts["train"] if one.meta]
    assert [one.meta["swapped"] for one in made] == list(groups) and {one.meta["from"] for one in made} == {"a"}
    assert {one.label for one in made} == {"x"}


def test_on_the_example_claims_cues_survive_and_twice_is_once():
    """Swapping gender twice restores everything but names, and no cue word of the label changes."""
    step = Counterfactual(Counterfactual.Config(groups=("gender",)), Context())
    with open(CLAIMS, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["note"]][:600]
    names = re.compile(rf"\b(?:{'|'.join(_names())})\b", re.IGNORECASE)
    count = 0
    for row in rows:
        one = Record(row["id"], (Message("user", row["note"]),), label=row["claim_type"])
        change = step.apply(one, 0)
        if change is None:
            continue
        count += 1
        made = change.added[0]
        back = step.apply(replace(made, id=one.id, meta={}), 0).added[0]
        assert names.sub("NAME", back.text) == names.sub("NAME", one.text)
    assert count > 500


@pytest.mark.parametrize(
    "text",
    ["he or she " * 10_000, "Leon " * 20_000, "a" * 100_000, "her " * 25_000, "aged 36 " * 12_000, "black " * 16_000],
)
def test_no_text_takes_long(text):
    begun = time.process_time()
    pairs(text, "gender", "names", "ethnicity", "religion", "age", "disability")
    assert time.process_time() - begun < 2.0  # 100 kB, six groups, each looked for and then carried out


@pytest.mark.skipif(not WINOBIAS.is_dir(), reason="needs WinoBias in ATTUNE_SHARED")
def test_on_winobias_the_swap_equals_the_pair_that_people_wrote():
    """Sentence pairs that differ in their pronouns alone, written by hand; those that differ by mistake count too."""
    right = total = 0
    for kind in ("type1", "type2"):
        sides = [
            re.sub(r"(?m)[\[\]]|^\d+ ", "", (WINOBIAS / f"{side}_stereotyped_{kind}.txt.test").read_text()).splitlines()
            for side in ("pro", "anti")
        ]
        for one, other in zip(*sides):
            for before, after in ((one, other), (other, one)):
                total += 1
                right += swapped(before.strip(), "gender") == after.strip()
    assert total == 1584 and right / total >= 0.96
