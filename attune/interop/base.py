"""What an importer is, and the draft it fills: our values, and for every key of the other tool what became of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from attune.errors import RecipeError
from attune.interop.document import Document, Given, Source, Unread
from attune.plugins import nearest
from attune.recipe.yaml import shown

__all__ = ["Draft", "Entry", "Importer", "Rule", "dropped", "same"]

SECRET = re.compile(r"(hf_|hub_)?token|\w*(api_?key|password|secret)", re.I)


@dataclass(frozen=True)
class Entry:
    """What became of one key: `to` is our key (None where nothing of ours is set), `why` in the user's words."""

    key: str
    given: Any
    to: str | None
    value: Any
    why: str
    where: str


@dataclass(frozen=True)
class Rule:
    """What one key of the other tool means here. Without `act` it is read together with others, in `convert`."""

    to: str
    """Our keys, for the table in the docs; empty where it is dropped."""
    how: str
    act: Callable[[Draft, Given], None] | None = None
    drops: bool = False


def same(to: str, read: Callable[[Given], Any], how: str = "") -> Rule:
    """The same thing under another name."""
    return Rule(to, how, lambda draft, given: draft.map(given, to, read(given), how))


def dropped(why: str) -> Rule:
    """A key that sets nothing here, and why that does no harm or what it loses."""
    return Rule("", why, lambda draft, given: draft.drop(given, why), drops=True)


@dataclass
class Draft:
    """A recipe in the making. Every key given leaves `open` once, into one of the three lists."""

    tool: str
    open: list[Given]
    devices: int | None = None
    """Devices the user says the other tool ran on; None where they did not."""
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Given] = field(default_factory=dict)
    mapped: list[Entry] = field(default_factory=list)
    approximated: list[Entry] = field(default_factory=list)
    dropped: list[Entry] = field(default_factory=list)
    defaults: list[Entry] = field(default_factory=list)
    """What the other tool does where its file says nothing, written out because ours differs."""
    fill_in: dict[str, str] = field(default_factory=dict)
    """Our key, and what the user has to put there."""

    # looking ---------------------------------------------------------------------------------------------------------

    def all(self, *names: str) -> list[Given]:
        """Every open key of these names that says something, in the order of the file."""
        return [given for given in self.open if given.name in names and given.said]

    def one(self, *names: str) -> Given | None:
        """The one of these names that counts: the last, as in a command line."""
        found = self.all(*names)
        return found[-1] if found else None

    # deciding --------------------------------------------------------------------------------------------------------

    def map(self, given: Given, to: str | None, value: Any, how: str = "") -> None:
        if self._place(given, to, value):
            self._done(given, self.mapped, to, value, how)

    def near(self, given: Given, to: str | None, value: Any, how: str) -> None:
        if self._place(given, to, value):
            self._done(given, self.approximated, to, value, how)

    def drop(self, given: Given, why: str) -> None:
        self._done(given, self.dropped, None, None, why)

    def drop_all(self, names: Iterable[str], why: str) -> None:
        for given in self.all(*names):
            self.drop(given, why)

    def default(self, to: str, value: Any, why: str = "") -> None:
        """The other tool's own choice, where the file made none."""
        if to not in self.values:
            self.values[to] = value
            self.defaults.append(Entry("", None, to, value, why or f"what {self.tool} does where nothing is said", ""))

    def need(self, to: str, what: str) -> None:
        self.fill_in[to] = f"{self.fill_in[to]}; {what}" if to in self.fill_in else what

    def _place(self, given: Given, to: str | None, value: Any) -> bool:
        if isinstance(given.value, Unread):
            self.drop(given, f"its value is known only when the file runs: {given.value.text}")
            if to and to != "name":
                self.need(to, f"{given.key} is decided when the file runs ({given.value.text})")
            return False
        if to is None:
            return True
        if to in self.values and self.values[to] != value:
            first = self.places[to].key if to in self.places else "another key"
            self.drop(given, f"{first} already says {to} = {shown(self.values[to])}")
            return False
        self.values[to] = value
        self.places.setdefault(to, given)
        return True

    def _done(self, given: Given, where: list[Entry], to: str | None, value: Any, why: str) -> None:
        self.open = [other for other in self.open if other is not given]
        value_given = given.value.text if isinstance(given.value, Unread) else given.value
        if SECRET.fullmatch(given.name.split(".")[-1]) and value_given:
            value_given = "(not shown)"
        where.append(Entry(given.key, value_given, to, value, why, given.where))

    def finish(self, table: dict[str, Rule]) -> None:
        """Everything still open: by the table, else dropped with the reason that nobody knows it."""
        for given in list(self.open):
            if not any(given is other for other in self.open):
                continue
            rule = lookup(table, given.name)
            if not given.said:
                self.drop(given, "empty: as if it were not there")
            elif isinstance(given.value, Unread) and not (rule and rule.drops):
                self._place(given, rule.to.split(",")[0] if rule and rule.to and " " not in rule.to else None, None)
                if any(given is other for other in self.open):
                    self.drop(given, f"its value is known only when the file runs: {given.value.text}")
            elif rule is None:
                guess = nearest(given.name, [name for name in table if "*" not in name])
                self.drop(given, f"no key of {self.tool} that attune knows{guess}; look up what it did")
            elif rule.act is None:
                self.drop(given, f"it changes nothing here ({rule.how})")
            else:
                rule.act(self, given)


def lookup(table: dict[str, Rule], name: str) -> Rule | None:
    """The rule of a key, of the block it stands in (`fsdp_config.*`), or of the beginning of its name (`wandb_*`)."""
    if name in table:
        return table[name]
    best = [key for key in table if key.endswith("*") and (name.startswith(key[:-1]) or name == key[:-2])]
    return table[max(best, key=len)] if best else None


class Importer:
    """Reads the recipes of one tool. A subclass has a `title`, a `table` of the tool's keys, and two methods."""

    name: ClassVar[str]
    title: ClassVar[str]
    table: ClassVar[dict[str, Rule]]

    def sources(self, document: Document) -> Sequence[Source]:
        """The recipes of this tool that the document holds, each with a score above 0."""
        raise TypeError(f"{type(self).__name__} must say how to recognise its recipes")

    def convert(self, draft: Draft, source: Source) -> None:
        """Fill the draft; keys left open go by `table`."""
        raise TypeError(f"{type(self).__name__} must convert")


def refuse(given: Given, what: str) -> RecipeError:
    return RecipeError(f"{given.key} {what}, not {shown(given.value)}", where=given.where)
