"""A light guess at the language of a text, for when no detector is installed: script, common words, tell-tale letters.

Good for telling languages apart in texts of a sentence or more; a few words are often undecided, and it knows no other
languages than those of LANGUAGES.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache

__all__ = ["LANGUAGES", "guess"]

WORDS = {
    "en": "the of and to in is that it for was on are with as be this have from or had by not but what all were we "
    "when your can there an which their said if do will each about how up out them then she many some so "
    "these would has i my you me they he his her why where please get did does could should just been want "
    "need help tell know like make find give take much name order work new use any time go see into than its "
    "only other over first after also because before between both come day down even here made more most must "
    "never now off own people right same too under very way well while who without yes let i'm it's look list "
    "good still think thing read show last year next call set money pay reserve book charge account card days "
    "at",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus "
    "er hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber "
    "vor zur bis mehr durch man sein wurde ich wir mein meine warum kann ihr wenn habe keine bitte wann "
    "wieviel wieso etwas jetzt schon immer ihre ihren dann",
    "fr": "le la les de des du et à un une en que qui dans pour pas au sur ne se ce il sont avec plus par est cette "
    "ont mais nous vous son ses aux été comme je ou leur si tout elle être fait on même aussi bien peut ces "
    "mon ma mes pourquoi comment quand où très y était avait combien temps compte carte faire chez cela sans "
    "puis encore",
    "es": "el la los las de que y en un una por con para no se del al lo como más pero sus le ya o este sí porque "
    "esta entre cuando muy sin sobre también me hasta hay donde quien desde todo nos durante todos uno les ni "
    "contra otros es son está mi su fue ser tiene puedo qué cómo mis han había cuánto cuándo cuenta tiempo "
    "tarjeta hacer entonces",
    "it": "il la di che e un una in per è non con del le si da gli alla dei della i come anche più al nel sono "
    "delle ma questo ha lo ho mi se su ci io quando o dopo solo perché tutti dal nella tra fatto stato essere "
    "mia mio può cosa suo loro degli questa sul quella dove molto era ancora",
    "pt": "o a os as de que e do da em um uma para com não no na por mais dos como mas ao ele das à seu sua ou "
    "quando muito nos já eu também só pelo pela até isso ela entre depois sem mesmo aos seus quem nas me esse "
    "eles você essa foi são está meu minha tem ser é há posso porque",
    "nl": "de het een en van in is dat op te zijn met voor niet aan er om ook als dan maar bij nog uit naar door "
    "over je ze wat hij ik was worden heeft deze wordt kan tot hebben geen mijn meer of wel zo we al moet die "
    "hoe waarom waar kunnen hun haar mij u",
    "sv": "och att det i en som är av för på den med inte till har de ett om man så jag var han från vi kan ska när "
    "eller men sig sin där efter hon vid under också mycket nu bara alla hade mot blev över varför hur mitt "
    "min din kunde skulle få mig",
    "da": "og at det i en som er af for på den med ikke til har de et om man så jeg var han fra vi kan skal når "
    "eller men sig sin der efter hun ved under også meget nu kun alle havde mod blev over hvorfor hvordan mit "
    "min din kunne skulle få mig blive noget hvad hvornår kort tid blevet endnu",
    "pl": "w i na z że się nie do to jest o jak po ale za od co jego przez tak dla czy być już ich tylko są może "
    "przy jej który oraz która które było mnie gdy ten tego także lub ma został go bardzo dlaczego gdzie moja "
    "mój moje mi kiedy można nas u ze bez",
    "tr": "bir ve bu da de için ile çok ne daha olarak olan gibi en kadar sonra ama var her o ki mi ben mı yok "
    "değil şey bana ya neden nasıl iki olduğu tarafından ise veya onu göre zaman beni benim biz sen hiç oldu "
    "olduğunu olması kendi bunu şu henüz beri kart zaten lütfen",
    "fi": "ja on ei se että en oli hän mutta ovat kuin myös niin kun sen jos tai joka mitä vain ole hänen minä olen "
    "sitä mukaan nyt jo sekä ne ollut vielä minun siitä kanssa olisi kaikki sitten miksi miten voi tämä minua "
    "koska sinä voin jälkeen kuinka kauan missä milloin",
}
LETTERS = {
    "de": "ß",
    "es": "ñ¿¡",
    "fr": "œ",
    "pt": "ãõ",
    "pl": "łęąśżźćń",
    "tr": "ğış",
    "da": "æø",
    "sv": "å",
}
"""Letters that (almost) only one of these languages writes. Danish writes å too: its other letters decide."""
PIECES = {
    "en": "th ing wh igh tion ould",
    "de": "sch ich ung keit ein ch",
    "fr": "eau oux ais qu' l' d' ment ée",
    "es": "ción ll ía ado dad",
    "it": "zione gli cch zz tà",
    "pt": "ção ões nh lh ão",
    "nl": "ij oe aa ee sch gen",
    "sv": "ck ång ör ä sk",
    "da": "øj ej hv ge æ ø",
    "pl": "sz cz rz dz ie",
    "tr": "lar ler dı yor mak ğ ş",
    "fi": "aa ää ii ssa llä nen yt kk",
}
"""Runs of letters that are frequent in one language and rarer in the others."""
SCRIPTS = {
    "GREEK": "el",
    "HEBREW": "he",
    "HANGUL": "ko",
    "THAI": "th",
    "DEVANAGARI": "hi",
    "ARABIC": "ar",
    "CYRILLIC": "ru",
    "CJK": "zh",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
}
LANGUAGES = tuple(sorted({*WORDS, *SCRIPTS.values(), "uk", "fa"}))
LEAST_SCORE = 1.6
"""A guess on less than about two common words is none."""
WORD = re.compile(r"[^\W\d_]+(?:['’])?")
LOOKED_AT = 5000
"""Characters of a long text that are enough."""


@cache
def _words() -> dict[str, tuple[tuple[str, float], ...]]:
    """word -> (language, weight): a word that several languages have says less."""
    having: dict[str, list[str]] = {}
    for language, words in WORDS.items():
        for word in dict.fromkeys(words.split()):
            having.setdefault(word, []).append(language)
    return {word: tuple((one, 1 / len(ones)) for one in ones) for word, ones in having.items()}


@cache
def _script(char: str) -> str:
    return unicodedata.name(char, "").split(" ")[0].split("-")[0]


def guess(text: str) -> tuple[str | None, float]:
    """The language (ISO 639-1) and how sure that is, 0 to 1; None where nothing speaks for any."""
    text = text[:LOOKED_AT]
    if text.isascii():
        return _latin(text)
    scripts = Counter(_script(char) for char in text if char.isalpha())
    if not scripts:
        return None, 0.0
    found: Counter[str] = Counter()
    for script, count in scripts.items():
        found[SCRIPTS.get(script, "latin" if script == "LATIN" else "?")] += count
    if found["ja"] > 0.05 * found["zh"]:
        found["ja"] += found.pop("zh", 0)
    # A letter of Chinese or Korean says more than one of an alphabet: it is a syllable or a word.
    for language in ("zh", "ja", "ko"):
        found[language] *= 3
    best, count = min(found.items(), key=lambda item: (-item[1], item[0]))
    if best == "latin":
        return _latin(text)
    share = count / found.total()
    if best == "?":
        return None, 0.0
    if best == "ru" and any(char in text for char in "іїєґІЇЄҐ"):
        best = "uk"
    if best == "ar" and any(char in text for char in "پچژگ"):
        best = "fa"
    return best, share


def _latin(text: str) -> tuple[str | None, float]:
    scores = dict.fromkeys(WORDS, 0.0)
    lower = text.lower()
    known = _words()
    words = [match.group() for match in WORD.finditer(lower)]
    for word in words:
        for language, weight in known.get(word.rstrip("'’"), ()):
            scores[language] += weight
    for language, letters in LETTERS.items():
        scores[language] += min(sum(lower.count(letter) for letter in letters), len(words)) * 0.7
    for language, pieces in PIECES.items():
        scores[language] += sum(lower.count(piece) for piece in pieces.split()) * 0.12
    best, second = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:2]
    if best[1] < LEAST_SCORE:
        return None, 0.0
    return best[0], min(1.0, (best[1] - second[1]) / best[1] + 0.5 * (1 - second[1] / best[1]))
