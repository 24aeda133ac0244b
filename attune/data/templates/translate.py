"""Translation."""

from __future__ import annotations

from attune.data.templates.base import Template
from attune.records import Record

SOURCE_NAMES = ("source_lang", "src_lang", "source_language", "from")
TARGET_NAMES = ("target_lang", "tgt_lang", "target_language", "to")
LANGUAGES = {
    "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "ca": "Catalan", "cs": "Czech", "cy": "Welsh", "da": "Danish",
    "de": "German", "el": "Greek", "en": "English", "eo": "Esperanto", "es": "Spanish", "et": "Estonian",
    "eu": "Basque", "fa": "Persian", "fi": "Finnish", "fr": "French", "ga": "Irish", "gl": "Galician",
    "gu": "Gujarati", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "id": "Indonesian",
    "is": "Icelandic", "it": "Italian", "ja": "Japanese", "ka": "Georgian", "kk": "Kazakh", "ko": "Korean",
    "la": "Latin", "lt": "Lithuanian", "lv": "Latvian", "mk": "Macedonian", "ml": "Malayalam", "mr": "Marathi",
    "ms": "Malay", "mt": "Maltese", "nb": "Norwegian", "nl": "Dutch", "no": "Norwegian", "pl": "Polish",
    "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sl": "Slovenian", "sq": "Albanian",
    "sr": "Serbian", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "te": "Telugu", "th": "Thai", "tl": "Tagalog",
    "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese", "zu": "Zulu",
}  # fmt: skip
"""ISO 639-1 codes -> names, for instructions."""


class Translate(Template):
    """A text in one language and the same in another. Each row may name its own two languages."""

    name = "translate"
    formats = ("translation",)
    varies = True
    columns = tuple(("source", "target", name) for name in TARGET_NAMES)
    metrics = ("chrf", "bleu", "length_ratio", "copied", "loss", "stop_rate", "invalid_rate")
    primary = "chrf"

    def instruction(self, record: Record) -> str:
        return f"Translate the text{self._languages(record)}.\n\n"

    def brief(self, record: Record) -> str:
        return f"translate{self._languages(record)}: "

    def _languages(self, record: Record) -> str:
        said = [
            next((str(record.meta[name]) for name in names if record.meta.get(name)), "")
            for names in (SOURCE_NAMES, TARGET_NAMES)
        ]
        source, target = (LANGUAGES.get(name.lower().split("_")[0].split("-")[0], name) for name in said)
        return (f" from {source}" if source else "") + (f" to {target}" if target else "")
