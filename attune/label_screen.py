"""Labelling on a terminal: one text after the other, one line for each answer. Reads lines from stdin as well."""

from __future__ import annotations

from typing import Any

from rich.columns import Columns
from rich.console import Console
from rich.text import Text

from attune.data.label.session import Session
from attune.data.label.shown import Item
from attune.data.label.spans import numbered, spans_from
from attune.errors import UsageError
from attune.plugins import nearest
from attune.records import Label, Span

__all__ = ["Screen"]

SHOWN_CHARS = 2000
LISTED = 16
"""More labels than this are listed when asked for."""
HELP = """\
  number or name   this label; the beginning of a name is enough where only one label begins so
  Enter            what the model proposes (the pre-label)
  s                skip: not asked again
  u                undo the last answer or skip
  + NAME           a new label
  l                list all labels
  m                the whole text, where it was cut
  p                progress
  a                advice: are more labels worth it?
  q                quit; every answer is saved already, the same command goes on"""
HELP_FOR = {
    "classification": "",
    "multilabel": "\n  1 3 or 1, 3      several labels; - for none of them",
    "tagging": "\n  3-4 PERSON, 7 2  words 3 to 4 are a PERSON, word 7 has label 2; - for no span",
}


class Screen:
    """Shows one text after the other and reads a line for each."""

    def __init__(self, session: Session, command: str, export: str):
        """`command` goes on with the work, `export` makes data of it: both are told at the end."""
        self.session, self.command, self.export = session, command, export
        self.console = Console(highlight=False)
        self.advised: Any = None

    def run(self) -> None:
        session = self.session
        if session.store.torn:
            self.say(f"The last line of {session.store.path} was cut off by a crash and is left out.", style="yellow")
        texts = session.texts
        self.say(f"{len(texts.records):,} texts from column '{texts.column}'. ? shows the keys.")
        if texts.copies or texts.empty:
            self.say(f"left out: {texts.copies} copies, {texts.empty} empty", style="dim")
        if not session.labels:
            self.say("No labels yet: + NAME makes one.", style="yellow")
        try:
            while (item := session.next()) is not None:
                self.show(item)
                if not self.ask(item):
                    break
            else:
                settled = "No disagreement is left." if session.adjudicate else "Nothing is left to label."
                self.say(f"\n{settled}", style="bold")
            self.leave()
        except KeyboardInterrupt:
            self.leave()
            raise
        finally:
            session.store.close()

    def say(self, text: str, style: str | None = None) -> None:
        """Plain text: nothing in it is markup, and nothing in it reaches the terminal as a command."""
        self.console.print(_visible(text), style=style, markup=False)

    def show(self, item: Item) -> None:
        session, console = self.session, self.console
        if session.advice is not None and session.advice is not self.advised:
            self.advised = session.advice
            self.say(f"\nadvice: {session.advice.sentence}", style="green" if session.advice.stop else "dim")
        mark = session.progress()
        console.print()
        done = f"{mark.disputed} disputed" if session.adjudicate else f"{mark.labelled:,} of {mark.texts:,} labelled"
        console.rule(f"[bold]{done}[/bold]", align="left", style="dim")
        if session.task == "tagging":
            shown = Text()
            for number, word in numbered(item.record):
                shown.append(f"{number}", style="dim").append(f":{_visible(word)} ")
            console.print(shown)
        else:
            cut = len(item.text) - SHOWN_CHARS
            self.say(item.text[:SHOWN_CHARS], style="bold")
            if cut > 0:
                self.say(f"... {cut:,} more characters: m", style="dim")
        console.print()
        for who, label in item.said:
            self.say(f"{who}: {self.told(item, label)}", style="yellow")
        if len(session.labels) <= LISTED:
            self.list_labels()
        elif item.likely:
            likely = "   ".join(f"{self.key(name)} {name} ({chance:.0%})" for name, chance in item.likely)
            self.say(f"{likely}   l: all {len(session.labels)} labels", style="cyan")
        else:
            self.say(f"l: all {len(session.labels)} labels", style="cyan")
        if item.confidence is not None:
            self.say(f"Enter = {self.told(item, item.prelabel)} ({item.confidence:.0%})", style="green")
        if item.why:
            self.say(f"asked because: {item.why}", style="dim")

    def ask(self, item: Item) -> bool:
        """Lines until one moves on; False to quit."""
        while True:
            try:
                line = input("> ").strip()
            except EOFError:
                print()
                return False
            except UnicodeDecodeError:
                self.say("That is not UTF-8.", style="red")
                continue
            try:
                moved = self.obey(item, line)
            except (UsageError, ValueError) as error:
                self.say(str(error), style="red")
                continue
            if moved is not None:
                return moved

    def obey(self, item: Item, line: str) -> bool | None:
        """True to go on to the next text, False to quit, None to ask again. Raises: UsageError, ValueError."""
        session = self.session
        if line == "q":
            return False
        if line == "s":
            session.skip(item.id)
            return True
        if line == "u":
            if session.undo() is None:
                self.say("There is nothing to undo.", style="red")
                return None
            self.say("Taken back.")
            return True
        if line.startswith("+"):
            session.add_label(line[1:])
            self.list_labels()
        elif line == "l":
            self.list_labels()
        elif line == "m":
            self.say(item.text)
        elif line == "?":
            print(HELP + HELP_FOR[session.task])
        elif line == "p":
            self.say(self.progress())
        elif line == "a":
            self.say(session.stop_advice().sentence)
        elif line == "":
            if item.confidence is None:
                raise UsageError("there is no pre-label to accept; ? shows the keys")
            session.accept(item.id)
            self.say(f"kept: {self.told(item, item.prelabel)}", style="dim")
            return True
        else:
            label = self.read(item, line)
            session.answer(item.id, label)
            self.say(f"kept: {self.told(item, label)}", style="dim")
            return True
        return None

    def read(self, item: Item, line: str) -> Label:
        """What a line says as a label. Raises: ValueError."""
        session = self.session
        if not session.labels:
            raise ValueError("there are no labels yet: + NAME makes one")
        if session.task == "classification":
            return self.name_of(line)
        if line == "-":
            return ()
        if session.task == "tagging":
            return spans_from(line, item.record, session.labels)
        parts = line.split(",") if "," in line else line.split() if line.replace(" ", "").isdecimal() else [line]
        return tuple(dict.fromkeys(self.name_of(part.strip()) for part in parts if part.strip()))

    def name_of(self, word: str) -> str:
        """The label that a number, a name or the beginning of one means. Raises: ValueError."""
        labels = self.session.labels
        if word in labels:
            return word
        if word.isdecimal() and not self.named and 1 <= int(word) <= len(labels):
            return labels[int(word) - 1]
        begun = [name for name in labels if name.casefold() == word.casefold()]
        begun = begun or [name for name in labels if name.casefold().startswith(word.casefold())]
        if len(begun) == 1:
            return begun[0]
        if begun:
            raise ValueError(f"'{word}' may be {', '.join(begun[:5])}")
        raise ValueError(f"'{word}' is no label{nearest(word, list(labels))} (l lists them, ? shows the keys)")

    @property
    def named(self) -> bool:
        """Where labels are numbers themselves, 1 must not mean 'the first': then only names count."""
        return any(name.isdecimal() for name in self.session.labels)

    def key(self, name: str) -> str:
        return "" if self.named else str(self.session.labels.index(name) + 1)

    def list_labels(self) -> None:

        names = [
            Text(f"{self.key(name)} {_visible(name)}".strip(), style="cyan", no_wrap=True)
            for name in self.session.labels
        ]
        self.console.print(Columns(names, padding=(0, 3)))

    def told(self, item: Item, label: Label) -> str:
        if not isinstance(label, tuple):
            return str(label)
        parts = [
            f"{item.text[part.start : part.end]} [{part.label}]" if isinstance(part, Span) else part for part in label
        ]
        return ", ".join(parts) or "none"

    def progress(self) -> str:
        mark = self.session.progress()
        lines = [f"{mark.labelled:,} of {mark.texts:,} labelled, {mark.mine} by {self.session.annotator}"]
        lines[0] += f", {mark.skipped} skipped" if mark.skipped else ""
        lines[0] += f", {mark.disputed} disputed" if mark.disputed else ""
        if mark.by_label:
            lines.append(", ".join(f"{name} {count}" for name, count in sorted(mark.by_label.items())))
        if mark.proposed:
            lines.append(f"pre-label right: {mark.right} of {mark.proposed}")
        if mark.seconds is not None:
            lines.append(f"{mark.seconds:.1f} s an answer (median)")
        return "\n".join(lines)

    def leave(self) -> None:
        self.say(f"\n{self.progress()}")
        print(f"Every answer is in {self.session.store.path}. Go on:   {self.command}")
        print(f"Make data of it:   {self.export}")


def _visible(text: str) -> str:
    """Control characters as escapes: a text must not move the cursor or colour the screen."""
    return "".join(c if c.isprintable() or c in "\n\t" or ord(c) > 0x9F else f"\\x{ord(c):02x}" for c in text)
