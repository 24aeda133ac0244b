"""Names of people, lightly: titles, words around them, and first names known from a short list. It finds what the form
shows; a tagger (`names: presidio`) finds more."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

from attune.data.privacy.detectors.base import Found

KINDS = ("name",)
PRIORITY = 20

UPPER = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĖĘĚĞĢĪĮİĶĹĻĽŁŃŅŇŌŐŒŔŘŚŞŠŢŤŪŮŰŲŹŻŽЀ-Я"
WORD = rf"[{UPPER}][^\W\d_]{{0,24}}+(?:['’-][^\W\d_]{{1,24}}+){{0,3}}+"
LINK = (
    r"(?:(?:van der|van den|van de|van|von der|von|vom|zu|de la|de las|de los|de|del|della|di|da|dos|das|do|du|le|la|"
    r"bin|ibn|al|el|ter|ten|y|e) )"
)
NAME = rf"{WORD}(?: (?:[{UPPER}]\. ?|{LINK}?{WORD})){{0,3}}+"
TITLE = (
    r"(?:Mr|Mrs|Ms|Mx|Miss|Dr|Prof|Professor|Doctor|Judge|Attorney|Nurse|Officer|Sgt|Sergeant|Lt|Capt|Rev|Sir|Dame|"
    r"Madam|Madame|Mme|Mlle|Monsieur|M\.|Maître|"
    r"Herr|Herrn|Frau|Fräulein|Señora?|Sra?|Srta|Doña|Signora?|Sig|Sig\.ra|Dott|Dott\.ssa|Dhr|Mevr|Mevrouw|Meneer|"
    r"Pani|Senhora?|Dona|Hr|Fru|Shri|Smt)"
)
TITLED = re.compile(rf"(?<![\w.])(?:{TITLE}\.?(?: (?:Dr|Prof|med|Ing)\.)? )({NAME})")
SAID = re.compile(
    r"(?<!\w)(?:[Mm]y (?:full |legal )?name is|[Nn]ame ?(?:of (?:the )?(?:patient|claimant|customer|employee|"
    r"insured))? ?(?:is|:)|(?:[Pp]atient|[Cc]laimant|[Cc]ustomer|[Ee]mployee|[Ii]nsured|[Pp]laintiff|[Dd]efendant|"
    r"[Aa]pplicant|[Pp]olicyholder|[Bb]eneficiary|[Ww]itness|[Cc]o-worker|[Cc]ontact(?: person)?|[Aa]ttn|[Ss]igned(?: "
    r"by)?|[Ff]ile of|[Ss]ent by|[Ff]rom|[Tt]o|[Cc]c)[:,]?"
    r"|[Ii] am|I['’]m|[Tt]his is|[Cc]alled|[Nn]amed|[Ii]ch hei(?:ß|ss)e|[Mm]ein [Nn]ame ist|[Ii]ch bin|[Jj]e "
    r"m['’]appelle|[Jj]e suis|[Mm]on nom est|[Mm]e llamo|[Mm]i nombre es|[Ss]oy|[Mm]i chiamo|[Ss]ono|[Ii]l mio nome è|"
    r"[Ii]k ben|[Mm]ijn naam is|[Mm]eu nome é|[Cc]hamo-me|[Nn]azywam się|[Jj]ag heter|[Jj]eg heter|[Jj]eg hedder|"
    r"[Nn]imeni on)"
    rf" ({NAME})"
)
PERSON = re.compile(
    r"(?i)(?:patient|claimant|employee|insured|plaintiff|defendant|applicant|policyholder|beneficiary|witness|"
    r"co-worker)[:,]? $"
)
"""Openings after which two capitalised words are a name."""
SURE = re.compile(
    r"(?i)(?<!\w)(?:name|hei(?:ß|ss)e|appelle|llamo|nombre|chiamo|nom|naam|nome|nazywam|heter|hedder|nimeni)(?!\w)"
)
"""Openings after which only a name can follow."""
GREETED = re.compile(
    rf"(?m)(?:^|(?<=[.!?] ))(?:Dear|Hi|Hello|Hey|Liebe[r]?|Hallo|Cher|Chère|Bonjour|Estimad[oa]|Querid[oa]|Hola|"
    rf"Car[oa]|Gentile|Ciao|Beste|Drogi|Droga|Kära?|Hej|Prezad[oa]|Olá) ({NAME})(?=\s{{0,2}}[,!:\n])"
)
SIGNED = re.compile(
    rf"(?i:regards|sincerely(?: yours)?|yours (?:truly|faithfully|sincerely)|best|cheers|thanks|thank you|grüße[n]?|"
    rf"gruß|cordialement|saludos|saluti|groeten|atenciosamente|pozdrawiam|hälsningar),?[ \t]*\n{{1,2}}[ "
    rf"\t]*(?:-{{1,2}} ?)?({NAME})(?=\s*(?:\n|$))"
)
RUN = re.compile(rf"(?<![\w@./-]){WORD}(?: (?:[{UPPER}]\. ?|{LINK}?{WORD})){{1,5}}+")
"""Capitalised words in a row; a known first name among them begins a name."""
WORDS = re.compile(r"[^ ]++")
CAPITAL = re.compile(rf"(?<![\w@./-])[{UPPER}][^\W\d_]{{2,24}}+(?![\w@])")
AMBIGUOUS = frozenset(
    "May June April Grant Summer Dawn Joy Paz Li Per Bill Guy Don Penny Dale Glen Guadalupe Trinidad Santiago Salvador "
    "Florence Sydney Austin Jordan Georgia Virginia Madison Savannah Chelsea Jackson Jade Amber Crystal Hazel Holly "
    "Mercedes Dean Earl Sierra Mason Destiny Lance Logan Floor Bas Sem Jan Candela Max Dana Ara "
    "Rosa Jersey".split()
)
NOT_NAMES = frozenset(
    "I The A An This That These Those It He She We You They My Your His Her Our Their Please Thank Thanks Hello Hi "
    "Dear Sir Madam Team Support Customer Service "
    "Bank Card Visa Mastercard Apple Google Pay Monday Tuesday Wednesday Thursday Friday Saturday Sunday January "
    "February March April May June July August "
    "September October November December New York London Paris Street Road Avenue Company Inc Ltd GmbH LLC Corp Board "
    "Court Judge Department Office University "
    "Hospital Hotel Street Claims Insurance And Or But If When Where What Who Why How All Everyone Anyone Somebody "
    "Nobody Not No Yes Just Sehr Der Die Das "
    "Damen Herren Madame Monsieur Not Having Getting Trying Sorry Afraid Sure American German "
    "French English Spanish Italian British European Muslim Christian".split()
)


@cache
def given_names() -> frozenset[str]:
    """First names of several languages, written down for attune (no source to license)."""
    return frozenset(json.loads((Path(__file__).parent.parent / "names.json").read_text(encoding="utf-8")))


def find(text: str) -> list[Found]:
    found: list[Found] = []
    for pattern, score in ((TITLED, 0.85), (GREETED, 0.75), (SIGNED, 0.8)):
        for match in pattern.finditer(text):
            _add(found, text, match.start(1), match.end(1), score)
    for match in SAID.finditer(text):
        first = re.split(r"[ ]", match.group(1), maxsplit=1)[0]
        opening = match.group()[: match.start(1) - match.start()]
        if SURE.search(opening) or _given(first) or (first != match.group(1) and PERSON.search(opening)):
            _add(found, text, match.start(1), match.end(1), 0.8)
    for match in RUN.finditer(text):
        words = list(WORDS.finditer(match.group()))
        for at, word in enumerate(words[:-1]):
            if _given(word.group()) and word.group() not in AMBIGUOUS:
                _add(
                    found,
                    text,
                    match.start() + word.start(),
                    match.start() + words[min(at + 3, len(words) - 1)].end(),
                    0.6,
                )
                break
    return found + _again(text, found) if found else found


def _again(text: str, found: list[Found]) -> list[Found]:
    """Later and earlier mentions of the same people by one of their names."""
    known = {word for hit in found for word in re.findall(rf"[{UPPER}][^\W\d_]{{2,24}}", text[hit.start : hit.end])}
    known -= NOT_NAMES | AMBIGUOUS
    return [Found(*word.span(), "name", 0.5) for word in CAPITAL.finditer(text) if word.group() in known]


def _given(word: str) -> bool:
    names = given_names()
    return word in names or ("-" in word and word.partition("-")[0] in names)


def _add(found: list[Found], text: str, start: int, end: int, score: float) -> None:
    """The name as far as its words can belong to one."""
    kept = start
    for word in re.finditer(r"[^ ]+", text[start:end]):
        bare = re.sub(r"['’]s$", "", word.group())
        if bare in NOT_NAMES or (len(bare) > 3 and bare.isupper() and not text[start:end].isupper()):
            break
        kept = start + word.start() + len(bare)
    value = text[start:kept]
    value = re.sub(r"(?: (?:van|von|de|la|del|di|da|do|e|y|le|al|el|der|den|las|los))+$", "", value)
    if len(value) > 1:
        found.append(Found(start, start + len(value), "name", score))
