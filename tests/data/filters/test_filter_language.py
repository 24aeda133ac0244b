"""Languages told by the light guess and by lingua; what cannot be told stays."""

import importlib.util
import time
from typing import Any

import pytest

from attune.data.filters.guess_language import LANGUAGES, guess
from attune.data.filters.language import Language
from attune.data.steps import Context
from attune.errors import DataError
from attune.records import Message, Record

SENTENCES = {
    "en": "My card has not arrived yet, what can I do about it?",
    "de": "Der Vertrag wurde am Montag von beiden Seiten unterschrieben.",
    "fr": "Combien de temps prend un virement vers mon compte ?",
    "es": "El contrato fue firmado el lunes por ambas partes.",
    "it": "La mia carta non è ancora arrivata, cosa posso fare?",
    "pt": "O meu cartão ainda não chegou, o que posso fazer?",
    "nl": "Hoe lang duurt een overschrijving naar mijn rekening?",
    "sv": "Mitt kort har inte kommit än, vad kan jag göra?",
    "da": "Hvor lang tid tager en overførsel til min konto?",
    "pl": "Umowa została podpisana w poniedziałek przez obie strony.",
    "tr": "Hesabıma havale ne kadar sürer ve neden bu kadar uzun?",
    "fi": "Korttini ei ole vielä saapunut, mitä voin tehdä?",
    "ru": "Моя карта ещё не пришла, что мне делать?",
    "uk": "Моя картка ще не прийшла, що мені робити?",
    "el": "Η κάρτα μου δεν έχει φτάσει ακόμα.",
    "ar": "لم تصل بطاقتي بعد، ماذا يمكنني أن أفعل؟",
    "fa": "کارت من هنوز نرسیده است، چه کار کنم؟ پول من کجاست",
    "he": "הכרטיס שלי עדיין לא הגיע, מה לעשות?",
    "hi": "मेरा कार्ड अभी तक नहीं आया है",
    "zh": "我的银行卡还没有到,请问我现在该怎么办?可以退款吗",
    "ja": "私のカードがまだ届いていません。どうすればいいですか",
    "ko": "제 카드가 아직 도착하지 않았습니다. 어떻게 하나요?",
    "th": "บัตรของฉันยังไม่มาถึง ฉันควรทำอย่างไร",
}


def step(**options: Any) -> Language:
    return Language(Language.Config(**options), Context())


def drops(one: Language, text: str) -> bool:
    return one.apply(Record("1", (Message("user", text),)), 0) is not None


def test_every_language_has_a_sentence() -> None:
    assert set(SENTENCES) == set(LANGUAGES)


@pytest.mark.parametrize("language", sorted(SENTENCES))
def test_light_guess(language: str) -> None:
    found, confidence = guess(SENTENCES[language])
    assert found == language and confidence >= 0.5


@pytest.mark.parametrize("text", ["", "12345 67890 $$$", "ok thx", "qwrtp zxcvb qqq", "👍👍👍 !!!", "\u200b" * 50])
def test_what_cannot_be_told_stays(text: str) -> None:
    one = step(detector="light", min_chars=1)
    assert not drops(one, text)
    assert one.facts()["languages"] == {"unknown": 1}


def test_only_the_languages_asked_for_stay_and_counts_are_told() -> None:
    one = step(keep=("en", "de"), detector="light")
    stay = [language for language, text in SENTENCES.items() if not drops(one, text)]
    assert stay == ["en", "de"]
    facts = one.facts()
    assert facts["detector"] == "light" and facts["left_out"] == len(SENTENCES) - 2
    assert facts["languages"]["fr"] == 1 and facts["by_rule"]["fr"] == 1


def test_short_rows_are_not_judged() -> None:
    assert not drops(step(detector="light", keep=("en",)), "Warum nicht ich?")
    assert drops(step(detector="light", keep=("en",), min_chars=5), "Warum nicht ich, und wann kann ich?")


def test_an_unknown_language_is_named() -> None:
    with pytest.raises(DataError, match="'xx' is no language that the detector 'light' knows"):
        step(keep=("xx",), detector="light")


def test_long_text_takes_no_longer() -> None:
    for text in ("der die das " * 10_000, "ж" * 100_000, "'" * 100_000, "a" * 100_000):
        start = time.process_time()
        guess(text)
        assert time.process_time() - start < 0.5


@pytest.mark.skipif(importlib.util.find_spec("lingua") is None, reason="needs attune[lang]")
def test_lingua_where_it_is_installed() -> None:
    one = step(keep=("en",))
    assert one.facts()["detector"] == "lingua"
    assert not drops(one, SENTENCES["en"]) and drops(one, SENTENCES["de"]) and drops(one, SENTENCES["ja"])
    with pytest.raises(DataError, match="did you mean"):
        step(keep=("enn",), detector="lingua")
