"""Writes the example data of the written tasks: small, invented, and the same on every machine.

python examples/tasks/generate.py
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROWS = 90
Row = dict[str, Any]

PEOPLE = ["Ana Ruiz", "Tom Becker", "Mina Okafor", "Lars Holm", "Priya Nair", "Joe Walsh", "Emre Kaya", "Lena Vogt",
          "Sam Cole", "Yuki Mori", "Rosa Lima", "Ivan Petrov"]  # fmt: skip
TOWNS = ["Norwich", "Graz", "Leiden", "Porto", "Tampere", "Ghent", "Malmo", "Trieste", "Brno", "Cork"]
GOODS = [
    ("desk lamp", 39),
    ("office chair", 189),
    ("kettle", 45),
    ("bicycle pump", 24),
    ("tent", 220),
    ("water filter", 31),
    ("rucksack", 95),
    ("phone case", 18),
    ("garden hose", 52),
    ("door lock", 77),
]
FAULTS = ["arrived with a crack", "makes a loud noise", "stopped working after two days", "has the wrong colour",
          "leaks at the bottom", "came without its screws"]  # fmt: skip
WISHES = ["wants the money back", "asks for a new one", "would like a discount", "asks when someone can repair it"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]


def summary(dice: random.Random) -> Row:
    person, town, day = dice.choice(PEOPLE), dice.choice(TOWNS), dice.choice(DAYS)
    good, fault, wish = dice.choice(GOODS)[0], dice.choice(FAULTS), dice.choice(WISHES)
    asides = [
        "The shop was quiet that morning.", "It was the third call of the day.", "The line was bad at first.",
        "A colleague took notes as well.", "The weather had delayed most parcels.", "The receipt was at hand.",
    ]  # fmt: skip
    first, second = dice.sample(asides, 2)
    document = (
        f"On {day} {person} from {town} called about a {good}. {first} {person.split()[0]} said that it {fault}. "
        f"{second} In the end {person.split()[0]} {wish}."
    )
    return {"document": document, "summary": f"{person} {wish}: the {good} {fault}."}


def translation(dice: random.Random) -> Row:
    subjects = [("Der Lehrer", "The teacher"), ("Meine Schwester", "My sister"), ("Der Arzt", "The doctor"),
                ("Unser Nachbar", "Our neighbour"), ("Das Kind", "The child"), ("Die Frau", "The woman")]  # fmt: skip
    verbs = [("kauft", "buys"), ("sucht", "is looking for"), ("braucht", "needs"), ("findet", "finds"),
             ("verkauft", "sells")]  # fmt: skip
    objects = [
        ("einen Schlüssel", "a key"),
        ("ein altes Buch", "an old book"),
        ("frisches Brot", "fresh bread"),
        ("eine rote Tasche", "a red bag"),
        ("zwei Karten", "two tickets"),
        ("ein Fahrrad", "a bicycle"),
    ]
    times = [("heute", "today"), ("jeden Tag", "every day"), ("am Morgen", "in the morning"), ("oft", "often")]
    (de1, en1), (de2, en2), (de3, en3), (de4, en4) = (dice.choice(part) for part in (subjects, verbs, objects, times))
    return {"de": f"{de1} {de2} {de4} {de3}.", "en": f"{en1} {en2} {en3} {en4}."}


def question(dice: random.Random) -> Row:
    person, town, (good, price) = dice.choice(PEOPLE), dice.choice(TOWNS), dice.choice(GOODS)
    day, hour = dice.choice(DAYS), dice.randint(8, 18)
    context = f"{person} will collect a {good} in {town} on {day} at {hour}:00. It costs {price} euros."
    asked = [
        ("Who will collect it?", person), ("Where will it be collected?", town), ("On which day?", day),
        ("What does it cost?", f"{price} euros"), ("What will be collected?", f"a {good}"),
        ("Who made it?", None), ("How will it be paid?", None),
    ]  # fmt: skip
    text, answer = dice.choice(asked)
    return {"context": context, "question": text, "answers": [] if answer is None else [answer]}


def order(dice: random.Random) -> Row:
    person, town = dice.choice(PEOPLE), dice.choice(TOWNS)
    lines = [(good, dice.randint(1, 5)) for good, _ in dice.sample(GOODS, dice.randint(1, 3))]
    said = " and ".join(f"{count} x {good}" for good, count in lines)
    express = dice.random() < 0.4
    openings = [f"Hello, this is {person} from {town}. I would like {said}", f"Please send {said} to {person}, {town}",
                f"{person} ({town}) orders {said}"]  # fmt: skip
    text = dice.choice(openings) + (", as fast as you can." if express else ".")
    items = [{"article": good, "count": count} for good, count in lines]
    return {"text": text, "json": {"customer": person, "town": town, "items": items, "express": express}}


SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "customer": {"type": "string"},
        "town": {"type": "string"},
        "items": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {"article": {"type": "string"}, "count": {"type": "integer", "minimum": 1}},
                "required": ["article", "count"],
            },
        },
        "express": {"type": "boolean"},
    },
    "required": ["customer", "town", "items", "express"],
    "additionalProperties": False,
}


def rewriting(dice: random.Random) -> Row:
    good, day, town = dice.choice(GOODS)[0], dice.choice(DAYS), dice.choice(TOWNS)
    openings = [("hey, ", "Dear Sir or Madam, "), ("hi there, ", "Good day. "), ("yo, ", "To whom it may concern: ")]
    middles = [
        (f"my {good} is busted again", f"my {good} is defective once more"),
        (f"still no sign of the {good}", f"the {good} has not yet been delivered"),
        (f"the {good} looks nothing like the pic", f"the {good} does not match its picture"),
    ]
    ends = [
        (f"can u fix it by {day}?", f"Could you please resolve this by {day}?"),
        (f"gimme a call, im in {town} til {day}", f"Please call me; I am in {town} until {day}."),
        ("want my cash back asap", "I request a refund as soon as possible."),
    ]
    (a, b), (c, d), (e, f) = dice.choice(openings), dice.choice(middles), dice.choice(ends)
    return {"informal": f"{a}{c}. {e}", "formal": f"{b}{d[0].upper() + d[1:] if b.endswith('. ') else d}. {f}"}


def chat(dice: random.Random) -> Row:
    good, price = dice.choice(GOODS)
    day, town = dice.choice(DAYS), dice.choice(TOWNS)
    turns = [
        (f"Do you have a {good}?", f"Yes, we have a {good} for {price} euros."),
        (f"Can I pick it up in {town}?", f"Yes, our shop in {town} keeps it for you for three days."),
        (f"Are you open on {day}?", f"Yes, on {day} we are open from nine to six."),
        (f"Can I return the {good}?", f"You can return the {good} within thirty days with the receipt."),
        ("Thank you.", "You are welcome."),
    ]
    start = dice.randint(0, 3)
    messages = [{"role": "system", "content": "You are the assistant of a shop. Answer in one sentence."}]
    for asked, answer in turns[start : start + dice.randint(1, 2)]:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


TASKS: dict[str, Callable[[random.Random], Row]] = {
    "summarize": summary,
    "translate": translation,
    "answer": question,
    "extract": order,
    "rewrite": rewriting,
    "chat": chat,
}


def files() -> dict[str, str]:
    """File name -> its whole text."""
    made = {"orders.schema.json": json.dumps(SCHEMA, indent=2) + "\n"}
    for name, row in TASKS.items():
        dice = random.Random(f"attune {name}")
        rows: dict[str, None] = {}
        while len(rows) < ROWS:
            rows[json.dumps(row(dice), ensure_ascii=False)] = None
        made[f"{name}.jsonl"] = "\n".join(rows) + "\n"
    return made


if __name__ == "__main__":
    for name, text in files().items():
        (HERE / name).write_text(text, encoding="utf-8")
        print(HERE / name)
