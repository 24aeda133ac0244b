"""Write train.csv and test.csv: invented workers' compensation notes whose label follows from meaning.

Each note starts as facts and is rendered from them, so the label is computed and never guessed:

* a fact names one cue (one claim type), one turn (the question that decides it) and a value;
* `holds` says whether the cue is true of this worker in this claim as the note finally stands;
* exactly one cue of a note holds, and `label_of` returns it.

Run `python examples/claims/generate.py`; the files come out byte for byte the same each time.
"""

import argparse
import csv
import datetime
import io
import json
import random
import re
from pathlib import Path
from typing import NamedTuple

import phrases

HERE = Path(__file__).resolve().parent
SEED = 20250304
COLUMNS = ("id", "note", "claim_type", "decision", "entities", "summary", "received")

TRAIN_NOTES, TEST_NOTES = 2240, 650  # train grows by the duplicates below
EXACT_SHARE, NEAR_SHARE, UNLABELLED_SHARE = 0.03, 0.04, 0.02  # shares of the finished train file

# Shares of the labels; the largest is about five times the smallest.
TYPE_SHARE = {
    "medical_only": 0.35,
    "lost_time": 0.26,
    "reduced_pay": 0.19,
    "permanent_loss": 0.13,
    "gradual_onset": 0.07,
}
DECISION_SHARE = {"granted": 0.40, "refused": 0.28, "pending": 0.20, "settled": 0.12}

# A cue with an amount holds only above its limit: days, percent, dollars of pay cut, years of exposure.
LIMIT = {"lost_time": 7, "permanent_loss": 0, "reduced_pay": 0, "gradual_onset": 0}
# For each turn: the value under which the cue holds, and the one under which it does not.
TURNS = {
    "amount": ("above", "below"),
    "said": ("yes", "no"),
    "who": ("worker", "other"),
    "claim": ("this", "earlier"),
    "ruling": ("accepted", "overruled"),
    "real": ("happened", "imagined"),
}
HOLDING_WEIGHT = {"amount": 6, "said": 2, "who": 2, "claim": 2, "ruling": 2, "real": 1}
FAILING_WEIGHT = {"amount": 3, "said": 4, "who": 4, "claim": 3, "ruling": 4, "real": 3}
DECOYS = ((1, 0.6), (2, 0.4))  # how many failing cues stand next to the one that holds
SAID_AGAIN, DENIED_AGAIN = 0.45, 0.08  # share of notes in which the cue that holds, or one that fails, comes up twice

# Turns that would read oddly for a cue (nobody fears a full recovery, and no slow illness lies ahead).
UNTOLD = {"medical_only": ("real",), "gradual_onset": ("real",)}
AT_LEAST = 0.25  # share of amounts told as "more than" the limit; a denied amount always is, or it might be smaller

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)  # spelled out here, so that the machine's language does not matter
WORDS = (35, 90)  # shortest and longest note
OPEN, MID, SHUT = "\x01", "\x02", "\x03"  # mark an entity in a half-made note as OPEN label MID text SHUT


class Fact(NamedTuple):
    """One thing a note says: `cue` would make that claim type, `turn` and `value` say whether it does.

    `amount` counts days, percent, or years (1 or 0 for a pay cut or none); None where the cue has no threshold.
    """

    cue: str
    turn: str
    value: str
    amount: int | None


def holds(fact):
    """True if the cue is true of this worker, in this claim, in reality, unreversed and above its limit."""
    for turn, (good, bad) in TURNS.items():
        if fact.turn == turn and fact.value not in (good, bad):
            raise ValueError(f"unknown value {fact.value!r} for turn {turn!r}")
    enough = fact.amount is None or fact.amount > LIMIT[fact.cue]
    return enough and fact.value == TURNS[fact.turn][0]


def label_of(facts):
    """The claim type of a note: the only cue that holds."""
    live = {fact.cue for fact in facts if holds(fact)}
    if len(live) != 1:
        raise ValueError(f"exactly one cue of a note must hold, got {sorted(live)}")
    return live.pop()


# ---- drawing facts ------------------------------------------------------------------------------------------------


def quotas(shares, count, rng):
    """A shuffled list of `count` labels in exactly the given shares (the first label takes the rounding)."""
    labels = [label for label, share in shares.items() for _ in range(round(share * count))]
    labels = labels[:count] + [next(iter(shares))] * (count - len(labels))
    rng.shuffle(labels)
    return labels


def draw_amount(cue, above, rng):
    """A number for the cue on the wanted side of its limit; None for a cue that has no threshold."""
    if cue not in LIMIT:
        return None
    if cue == "lost_time":
        return rng.randint(8, 40) if above else rng.randint(1, 7)
    if not above:
        return 0
    return {"permanent_loss": rng.randint(2, 30), "gradual_onset": rng.randint(3, 25), "reduced_pay": 1}[cue]


def draw_turn(cue, good, rng, but=None):
    """A turn that can be told of the cue, other than `but`."""
    weights = dict(HOLDING_WEIGHT if good else FAILING_WEIGHT)
    for turn in (*UNTOLD.get(cue, ()), but, None if good or cue in LIMIT else "amount"):
        weights.pop(turn, None)
    return rng.choices(list(weights), list(weights.values()))[0]


def draw_fact(cue, good, rng):
    """A fact on `cue` that holds (`good`) or fails, each failure by one clear turn only."""
    turn = draw_turn(cue, good, rng)
    value = TURNS[turn][0 if good else 1]
    return Fact(cue, turn, value, draw_amount(cue, good or turn != "amount", rng))


def draw_facts(label, rng):
    """The facts of one note: one that holds for `label`, and failing ones on other cues, in random order."""
    others = [cue for cue in TYPE_SHARE if cue != label]
    count = rng.choices([n for n, _ in DECOYS], [share for _, share in DECOYS])[0]
    live, failing = draw_fact(label, True, rng), [draw_fact(cue, False, rng) for cue in rng.sample(others, count)]
    facts = [live, *failing]
    if rng.random() < SAID_AGAIN:  # the same thing with the same amount, told by another turn
        turn = draw_turn(label, True, rng, but=live.turn)
        facts.append(live._replace(turn=turn, value=TURNS[turn][0]))
    if failing[0].turn != "amount" and rng.random() < DENIED_AGAIN:  # so that coming up twice does not make a cue hold
        turn = "said" if failing[0].turn == "who" else "who"
        facts.append(failing[0]._replace(turn=turn, value=TURNS[turn][1]))
    rng.shuffle(facts)
    return facts


# ---- rendering ----------------------------------------------------------------------------------------------------


def mark(label, text):
    """`text` marked as an entity, to be found again once the note is finished."""
    return f"{OPEN}{label}{MID}{text}{SHUT}"


def finish(marked):
    """The plain note and its entity spans, from a note with marks."""
    note, spans, label, start = [], [], None, 0
    for piece in re.split(f"([{OPEN}{MID}{SHUT}])", marked):
        if piece == OPEN:
            label = ""
        elif piece == MID:
            start = sum(map(len, note))
        elif piece == SHUT:
            spans.append({"start": start, "end": sum(map(len, note)), "label": label})
            label = None
        elif label == "":
            label = piece
        else:
            note.append(piece)
    return "".join(note), spans


def plain(marked):
    """The note without its marks."""
    return finish(marked)[0]


def capital(sentence):
    """The sentence with its first letter raised, also where it begins with a marked entity."""
    at = sentence.index(MID) + 1 if sentence.startswith(OPEN) else 0
    return sentence[:at] + sentence[at : at + 1].upper() + sentence[at + 1 :]


def show_date(day, rng):
    """A date in one of the spellings people use; slashed dates are month first."""
    month, short = MONTHS[day.month - 1], MONTHS[day.month - 1][:3]
    return rng.choice(
        (
            day.isoformat(),
            f"{day.month}/{day.day}/{day.year}",
            f"{day.day} {month} {day.year}",
            f"{short}. {day.day}, {day.year}",
            f"{month} {day.day}, {day.year}",
            f"{short}. {day.day}, '{day:%y}",
            f"{day.month}/{day.day}/'{day:%y}",
            f"{day.day} {short} {day.year}",
        )
    )


def show_money(rng, least=180, most=9800):
    """An amount of money in one of three spellings."""
    amount = rng.randrange(least, most, 5)
    return rng.choice((f"${amount:,}", f"${amount}.00", f"{amount:,} dollars"))


def draw_person(bank, rng):
    """(first, last, gender word) of an invented person."""
    gender = rng.choice(("man", "woman"))
    return rng.choice(bank["first_m" if gender == "man" else "first_f"]), rng.choice(bank["last"]), gender


def demographics(gender, rng):
    """A clause on age, gender, ethnicity or disability, or nothing; drawn without looking at any label."""
    if rng.random() < 0.6:
        return ""
    age, ethnicity = rng.randint(19, 68), rng.choice(phrases.ETHNICITIES)
    who = rng.choice(
        (
            f"a {gender} aged {age}",
            f"aged {age}",
            f"one {ethnicity} {gender}",
            f"{age}-year-old {ethnicity} {gender}",
            f"{age} y/o {gender}",
            rng.choice(phrases.DISABILITIES),
        )
    )
    return who + ", "


def render_fact(fact, bank, surname, rng):
    """One sentence that states the fact; `surname` is the worker's."""
    if fact.value == "below":
        past, base = rng.choice(bank["below"][fact.cue]), ""
    else:
        past, base = rng.choice(bank["cue"][fact.cue])
    frame = rng.choice(bank["frame"][fact.turn, fact.value])
    first, last, _ = draw_person(bank, rng)
    other = rng.choice(bank["other"]).format(name=mark("PERSON", f"{first} {last}"))
    worker = mark("PERSON", surname) if rng.random() < 0.2 else rng.choice(phrases.WORKER_WORDS)
    amount = fact.amount
    if fact.cue in ("lost_time", "permanent_loss") and fact.value != "below":
        if (fact.turn, fact.value) == ("said", "no") or rng.random() < AT_LEAST:
            amount = f"more than {LIMIT[fact.cue]}"
    numbers = {"n": amount, "p": amount, "y": amount, "x": rng.choice(phrases.EXPOSURES)}
    text = frame.format(W=worker, O=other, past=past.format(**numbers), base=base.format(**numbers))
    return capital(text.replace(" 1 days", " 1 day"))


def render_sentences(facts, decision, bank, day, rng):
    """The marked sentences for these facts, with the name and employer the summary needs."""
    first, last, gender = draw_person(bank, rng)
    employer = rng.choice(bank["employer"])
    opener = rng.choice(bank["opener"]).format(
        name=mark("PERSON", f"{first} {last}"),
        demo=demographics(gender, rng),
        job=rng.choice(phrases.JOBS),
        employer=mark("EMPLOYER", employer),
        part=mark("BODY_PART", rng.choice(phrases.BODY_PARTS)),
        date=mark("DATE", show_date(day, rng)),
    )
    said = [render_fact(fact, bank, last, rng) for fact in facts]
    said.append(rng.choice(bank["decision"][decision]).format(amount=mark("AMOUNT", show_money(rng))))
    for filler in rng.sample(bank["filler"], rng.choice((0, 0, 0, 1))):
        cite = rng.choice(phrases.CITATION_STYLES).format(s=rng.choice(phrases.CITED_SECTIONS))
        said.append(
            filler.format(
                cite=cite,
                phone=f"{rng.choice(('', '404-', '(706) '))}555-01{rng.randint(0, 99):02d}",
                email=f"{first[0].lower()}.{last.lower()}@example.com",
                ssn=f"000-{rng.randint(10, 99)}-{rng.randint(1000, 9999)}",
                amount=mark("AMOUNT", show_money(rng)),
                wage=mark("AMOUNT", show_money(rng, 340, 1500)),
            )
        )
    rng.shuffle(said)  # so that no place in the note gives the label away
    return [opener] + said, f"{first} {last}", employer


def join_messy(sentences, rng):
    """The sentences in one line, now and then with stray blanks or what is left of a web form."""
    if rng.random() < 0.86:
        return " ".join(sentences)
    glue = rng.choice(("  ", " <br> ", "<br/>", "&nbsp;", "\t", "   "))
    at = rng.randrange(1, len(sentences))
    text = " ".join(sentences[:at]) + glue + " ".join(sentences[at:])
    return rng.choice((text, text, f"<p>{text}</p>", f" {text} ", f"{text}  "))


def make_row(label, decision, bank, day, rng):
    """A finished row without id: a note within the length limits, its spans and its summary, and its facts."""
    while True:
        facts = draw_facts(label, rng)
        reported = day - datetime.timedelta(rng.randint(3, 60))
        sentences, name, employer = render_sentences(facts, decision, bank, reported, rng)
        marked = join_messy(sentences, rng)
        if WORDS[0] <= len(plain(marked).split()) <= WORDS[1]:
            break
    summary = f"{name} of {employer} {phrases.SUMMARY_OF[label]}; {phrases.SUMMARY_DECISION[decision]}."
    return {
        "marked": marked,
        "facts": facts,
        "claim_type": label_of(facts),
        "decision": decision,
        "summary": summary,
        "day": day,
        "copy_of": None,
        "mess": None,
    }


# ---- mess of the train file ---------------------------------------------------------------------------------------

# Words that may be swapped in a near duplicate without touching what the note says.
SWAPS = {"claim": "case", "doctor": "physician", "file": "folder", "insurer": "carrier", "report": "form"}


def nearly(marked, rng):
    """The note retyped: one or two words swapped, or case and blanks changed; the meaning stays."""
    pieces = re.split(f"({OPEN}[^{SHUT}]*{SHUT})", marked)
    spots = [
        (i, word)
        for i, piece in enumerate(pieces)
        if not piece.startswith(OPEN)
        for word in SWAPS
        if re.search(rf"\b{word}\b", piece)
    ]
    kind = rng.choice(("swap", "swap", "case", "space"))
    if kind == "swap" and spots:
        for i, word in rng.sample(spots, min(len(spots), rng.choice((1, 2)))):
            pieces[i] = re.sub(rf"\b{word}\b", SWAPS[word], pieces[i], count=1)
    elif kind == "case":
        pieces = [piece if piece.startswith(OPEN) else piece.lower() for piece in pieces]
    else:
        pieces = [
            piece if piece.startswith(OPEN) else piece.replace(". ", ".  ").replace(", ", ",  ") for piece in pieces
        ]
    return "".join(pieces)


def shingles(note):
    """The set of runs of three words of a note, case and punctuation aside."""
    words = re.findall(r"[a-z0-9]+", note.lower())
    return frozenset(zip(words, words[1:], words[2:]))


def add_copies(rows, rng):
    """The rows with exact and near duplicates added, and some labels blanked."""
    total = round(len(rows) / (1 - EXACT_SHARE - NEAR_SHARE))
    exact, near = round(total * EXACT_SHARE), round(total * NEAR_SHARE)
    copies = []
    for i, row in enumerate(rng.sample(rows, exact + near)):
        copy = dict(row, copy_of=row, day=row["day"] + datetime.timedelta(rng.randint(0, 9)))
        copy["mess"] = "exact" if i < exact else "near"
        while copy["mess"] == "near" and plain(copy["marked"]) == plain(row["marked"]):
            copy["marked"] = nearly(row["marked"], rng)
        copies.append(copy)
    # A label is taken only from rows that have no copy, so that no copy disagrees with its original.
    copied = {id(copy["copy_of"]) for copy in copies}
    alone = [row for row in rows if id(row) not in copied]
    for target in ("claim_type", "decision"):
        for row in rng.sample(alone, round(total * UNLABELLED_SHARE)):
            row[target] = ""
    rows = rows + copies
    rng.shuffle(rows)
    return rows


# ---- the two files ------------------------------------------------------------------------------------------------


def strings(value):
    """Every string in a nested bank."""
    if isinstance(value, str):
        return {value}
    return set().union(*map(strings, value.values() if isinstance(value, dict) else value), set())


def check_disjoint(train=phrases.TRAIN, test=phrases.TEST):
    """Fail if train and test share a name, an employer, a template or a phrase."""
    shared = strings(train) & strings(test)
    if shared:
        raise ValueError(f"used in both train and test: {sorted(shared)}")


def make_rows(bank, count, first_day, days, rng):
    """`count` clean rows with labels in their shares and pairwise different notes."""
    types, decisions = quotas(TYPE_SHARE, count, rng), quotas(DECISION_SHARE, count, rng)
    return [
        make_row(label, decision, bank, first_day + datetime.timedelta(rng.randrange(days)), rng)
        for label, decision in zip(types, decisions)
    ]


def build(train_notes=TRAIN_NOTES, test_notes=TEST_NOTES):
    """{"train": rows, "test": rows}; a row has the CSV columns, and `facts`, `copy_of`, `mess` beside them."""
    check_disjoint()
    rng = random.Random(SEED)
    train = make_rows(phrases.TRAIN, train_notes, datetime.date(2023, 1, 9), 820, rng)
    train = add_copies(train, rng)
    test = make_rows(phrases.TEST, test_notes, datetime.date(2025, 4, 14), 160, rng)
    for prefix, rows in (("A", train), ("T", test)):
        for number, row in enumerate(rows, 1):
            note, spans = finish(row["marked"])
            # Dates in train are typed as people type them; test keeps to ISO.
            received = show_date(row["day"], rng) if prefix == "A" and rng.random() < 0.3 else row["day"].isoformat()
            row.update(id=f"{prefix}{number:04d}", note=note, entities=json.dumps(spans), received=received)
    return {"train": train, "test": test}


def to_csv(rows):
    """The CSV text of the rows."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def main():
    """Rewrite train.csv and test.csv."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (default: beside this file)")
    parser.add_argument("--train", type=int, default=TRAIN_NOTES, help="training notes, before duplicates are added")
    parser.add_argument("--test", type=int, default=TEST_NOTES, help="test notes")
    asked = parser.parse_args()
    out = asked.out
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in build(asked.train, asked.test).items():
        (out / f"{name}.csv").write_text(to_csv(rows), encoding="utf-8", newline="\n")
        print(f"{name}.csv: {len(rows)} rows")


if __name__ == "__main__":
    main()
