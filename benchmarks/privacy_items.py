"""Texts with personal data planted by faker, for measuring detectors. This file knows nothing of any detector.

An item is a sentence that carries one value, between sentences with things that look like personal data and are none
(dates, amounts, case numbers, versions). Formats and locales are in three groups: `dev` may be looked at while a
detector is written; `held` and `last` may not.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import random
import string
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import NamedTuple

from faker import Faker

LOCALES = {
    "dev": ("en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "pt_BR", "pl_PL"),
    "held": ("nl_NL", "sv_SE", "en_IN", "cs_CZ", "ja_JP", "en_AU", "pt_PT"),
    "last": ("da_DK", "no_NO", "fi_FI", "tr_TR", "ko_KR", "en_CA", "zh_CN", "ro_RO", "es_MX", "de_AT", "fr_CH"),
}
WITHOUT_NUMBER = ("en_US", "ja_JP", "en_AU", "pt_PT", "da_DK")
"""Locales for which faker has no identity number of their own (it gives US numbers)."""
STRUCTURED = (
    "email",
    "phone",
    "card",
    "iban",
    "ip",
    "ssn",
    "national_id",
    "secret",
    "date_of_birth",
    "url_credentials",
)
LOOSE = ("name", "address")


class Item(NamedTuple):
    text: str
    start: int
    end: int
    """The planted value."""
    kind: str
    group: str
    format: str
    locale: str


class Fake(NamedTuple):
    faker: Faker
    rng: random.Random
    locale: str


# ---- sentences -----------------------------------------------------------------------------------------------------

SENTENCES = {
    "email": (
        "Write to {} please.",
        "My e-mail is {}.",
        "I sent it to {} yesterday",
        "Contact: {}",
        "From <{}>, no subject.",
        "E-mail on file: {}.",
        "The account of {} is locked.",
        "{} has not answered yet.",
    ),
    "phone": (
        "Call me at {} after noon.",
        "Phone: {}",
        "You can reach me on {}.",
        "My number is {}, please ring before six.",
        "Tel. {}",
        "His mobile is {}.",
        "Phone on file: {}.",
        "Text me on {} when it is done",
        "fax {}",
        "Please phone {} about the claim.",
    ),
    "card": (
        "My card {} was declined.",
        "Charged to {} twice.",
        "card no. {}, expires 09/27",
        "I paid with {} in the shop.",
        "The number on it is {}.",
    ),
    "iban": (
        "Please refund to {}.",
        "IBAN: {}",
        "Transfer it to {} today.",
        "The account {} was closed.",
        "bank details {}, thanks",
    ),
    "ip": (
        "Login from {} was refused.",
        "The request came from {}.",
        "host={} port=443",
        "Someone at {} opened the file.",
        "client {}, status 200",
    ),
    "ssn": (
        "SSN {}.",
        "Social security no. {} checked.",
        "My social security number is {}.",
        "ssn: {}",
        "SSN on file {}.",
    ),
    "national_id": (
        "National ID: {}",
        "My national insurance number is {}.",
        "ID number {} was checked.",
        "Identity card {}, copied.",
        "National identity number: {}",
    ),
    "date_of_birth": (
        "Date of birth: {}.",
        "DOB {}",
        "The claimant, born {}, lives alone.",
        "I was born on {}.",
        "Birth date {}, female.",
        "She was born {} in a small town.",
    ),
    "url_credentials": ("Clone it from {} first.", "The link {} still works", "DATABASE_URL={}", "see {}."),
    "name": (
        "My name is {}.",
        "Patient: {}.",
        "Dear {},\nthe form is attached.",
        "I spoke with {} about it.",
        "Regards,\n{}\n",
        "{} filed for the lower back.",
        "The claimant {} went home.",
    ),
    "address": ("I moved to {}.", "Address: {}", "Please send it to {}.", "He lives at {}.", "The house at {} burned."),
}
LOCAL_SENTENCES = {
    "de": {
        "phone": ("Rufen Sie mich unter {} an.", "Telefon: {}", "Tel.: {}, ab 18 Uhr"),
        "date_of_birth": ("geboren am {} in Köln", "Geburtsdatum: {}"),
        "email": ("Schreiben Sie an {}, danke.",),
    },
    "fr": {
        "phone": ("Appelez-moi au {} ce soir.", "Tél : {}", "Mon portable est le {}."),
        "date_of_birth": ("né le {} à Lyon", "Date de naissance : {}"),
        "email": ("Mon adresse est {}.",),
    },
    "es": {
        "phone": ("Llámame al {} por favor.", "Teléfono: {}", "Mi móvil es {}."),
        "date_of_birth": ("nacida el {} en Sevilla", "Fecha de nacimiento: {}"),
        "email": ("Escriba a {} hoy.",),
    },
    "it": {
        "phone": ("Chiamami al {} domani.", "Telefono: {}", "Il mio cellulare è {}."),
        "date_of_birth": ("nato il {} a Torino", "Data di nascita: {}"),
        "email": ("Scrivi a {} grazie.",),
    },
    "pt": {
        "phone": ("Ligue para {} amanhã.", "Telefone: {}", "Meu celular é {}."),
        "date_of_birth": ("nascida em {} no Porto", "Data de nascimento: {}"),
        "email": ("Escreva para {}.",),
    },
    "pl": {
        "phone": ("Proszę dzwonić pod {} wieczorem.", "Telefon: {}", "Tel. {}"),
        "date_of_birth": ("urodzony {} w Łodzi", "Data urodzenia: {}"),
        "email": ("Mój adres to {}.",),
    },
    "nl": {
        "phone": ("Bel mij op {} vanavond.", "Telefoon: {}"),
        "date_of_birth": ("geboren op {} te Utrecht", "Geboortedatum: {}"),
    },
    "sv": {
        "phone": ("Ring mig på {} i kväll.", "Telefon: {}"),
        "date_of_birth": ("född {} i Lund", "Födelsedatum: {}"),
    },
    "cs": {"phone": ("Volejte {} večer.", "Telefon: {}"), "date_of_birth": ("narozen {} v Brně",)},
    "da": {"phone": ("Ring til {} i morgen.", "Tlf. {}"), "date_of_birth": ("født den {} i Aarhus",)},
    "no": {"phone": ("Ring {} i morgen.", "Tlf. {}"), "date_of_birth": ("født {} i Bergen",)},
    "fi": {"phone": ("Soita numeroon {} illalla.", "Puhelin: {}"), "date_of_birth": ("syntynyt {} Turussa",)},
    "tr": {"phone": ("Beni {} numarasından arayın.", "Telefon: {}"), "date_of_birth": ("doğum tarihi {}",)},
}
NATIONAL_SENTENCES = {
    "es_ES": "Mi DNI es {}.",
    "it_IT": "Codice fiscale: {}",
    "fr_FR": "Numéro de sécurité sociale : {}",
    "pl_PL": "PESEL {}",
    "pt_BR": "CPF: {}",
    "de_DE": "Sozialversicherungsnummer: {}",
    "nl_NL": "BSN {}",
    "sv_SE": "Personnummer: {}",
    "no_NO": "Fødselsnummer {}",
    "da_DK": "CPR-nummer: {}",
    "fi_FI": "Henkilötunnus: {}",
    "en_GB": "NINO {}",
    "en_CA": "My SIN is {}.",
    "en_IN": "Aadhaar: {}",
    "pt_PT": "NIF: {}",
    "en_AU": "TFN {}",
}
FILLER = (
    "The shift began at six.",
    "Nothing else was said.",
    "The report came on 14 March 2024.",
    "We paid $1,234.56 on 03/04/2024.",
    "Case no. 2024-118-4471 is open.",
    "Order 5517734120 has not come.",
    "It took from 09:30 to 17:45.",
    "See O.C.G.A. § 34-9-200 for this.",
    "Version 2.14.0.3 fixed it.",
    "The total of 12 345 678 is wrong.",
    "Invoice 20240312-7781 was sent twice.",
    "ISBN 978-3-16-148410-0 is the handbook.",
    "He lost 12 days of work in 2023-2024.",
    "The loan of 1.234.567,89 EUR was granted.",
    "Ref: AB-99812-Q.",
    "Docket 1:22-cv-01234 was closed.",
    "We open 0900-1700 on weekdays.",
    "Pages 120-145 are missing.",
    "It was recorded at 2024-05-06 07:08:09.",
    "The tracking number is 1Z999AA10123456784.",
    "He earned 45,000 a year.",
    "The ratio was 0.3333333 at last.",
    "The judge read sections 12.4.1 and 12.4.2.",
    "Ticket #88123471 was merged.",
    "The part 4711-0815-22 broke.",
    "The batch 000123456789 failed.",
    "I waited 3 weeks.",
    "The claim was filed on 2024-11-05.",
    "Benefits were granted on appeal.",
    "Room 1204, third floor.",
)

# ---- values --------------------------------------------------------------------------------------------------------

Maker = Callable[[Fake], str]


def _email(fake: Fake) -> str:
    return fake.faker.email()


def _ascii(fake: Fake) -> str:
    return fake.faker.ascii_safe_email() if fake.rng.random() < 0.3 else fake.faker.ascii_company_email()


def _spaced(value: str, size: int = 4, by: str = " ") -> str:
    return by.join(value[at : at + size] for at in range(0, len(value), size))


def _card(fake: Fake) -> str:
    return fake.faker.credit_card_number()


def _card16(fake: Fake) -> str:
    return _seeded("en_US", fake).credit_card_number(fake.rng.choice(("visa16", "mastercard", "discover")))


def _amex(fake: Fake) -> str:
    value = _seeded("en_US", fake).credit_card_number("amex")
    return f"{value[:4]} {value[4:10]} {value[10:]}"


def _iban(fake: Fake) -> str:
    return fake.faker.iban()


def _v6(fake: Fake) -> str:
    return ipaddress.IPv6Address(fake.faker.ipv6()).exploded


def _short_v6(fake: Fake) -> str:
    words = [f"{fake.rng.randrange(1 << 16):x}" for _ in range(3)]
    return str(ipaddress.IPv6Address(f"2001:db8:{words[0]}::{words[1]}:{words[2]}"))


def _ssn(fake: Fake) -> str:
    return _seeded("en_US", fake).ssn()


def _seeded(locale: str, fake: Fake) -> Faker:
    faker = Faker(locale)
    faker.seed_instance(fake.rng.randrange(1 << 30))
    return faker


def _national(fake: Fake) -> str:
    own = {"en_IN": "aadhaar_id", "es_ES": "nif", "de_DE": "rvnr", "cs_CZ": "birth_number", "es_MX": "curp"}
    return getattr(fake.faker, own.get(fake.locale, "ssn"))()


def _chars(fake: Fake, count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(fake.rng.choice(alphabet) for _ in range(count))


HEX = "0123456789abcdef"
CAPITALS = string.ascii_uppercase + "234567"


def _jwt(fake: Fake) -> str:
    def part(value: dict) -> str:
        return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {"sub": fake.faker.user_name(), "iat": 1700000000}
    return f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}.{_chars(fake, 43)}"


def _pem(fake: Fake) -> str:
    kind = fake.rng.choice(("RSA ", "", "EC ", "OPENSSH "))
    body = "\n".join(_chars(fake, 64, string.ascii_letters + string.digits + "+/") for _ in range(4))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----"


MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "pt": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "pl": "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia",
    "nl": "januari februari maart april mei juni juli augustus september oktober november december",
    "sv": "januari februari mars april maj juni juli augusti september oktober november december",
    "da": "januar februar marts april maj juni juli august september oktober november december",
}


def _born(shape: str) -> Maker:
    def make(fake: Fake) -> str:
        date = fake.faker.date_between(datetime.date(1935, 1, 1), datetime.date(2005, 12, 31))
        months = MONTHS.get(fake.locale[:2], MONTHS["en"]).split()
        return date.strftime(shape).replace("MONTH", months[date.month - 1]).replace("DAY", str(date.day))

    return make


def _named(fake: Fake) -> str:
    if fake.locale[:2] in ("de",):
        return _born("DAY. MONTH %Y")(fake)
    if fake.locale[:2] in ("es", "pt"):
        return _born("DAY de MONTH de %Y")(fake)
    return _born("DAY MONTH %Y")(fake)


def _url(scheme: str) -> Maker:
    return lambda fake: f"{scheme}://{fake.faker.user_name()}:{_chars(fake, 10)}@{fake.faker.domain_name()}/main"


FORMATS: dict[str, dict[str, dict[str, Maker]]] = {
    "email": {
        "dev": {
            "plain": _email,
            "company": _ascii,
            "tag": lambda fake: fake.faker.email().replace("@", f"+{_chars(fake, 4, string.ascii_lowercase)}@"),
            "capitals": lambda fake: fake.faker.email().upper(),
            "subdomain": lambda fake: f"{fake.faker.user_name()}@mail.{fake.faker.domain_name()}",
        },
        "held": {
            "mailto": lambda fake: fake.faker.free_email(),
            "apostrophe": lambda fake: (
                f"{fake.rng.choice('mjks')}.o'{fake.faker.user_name()}@{fake.faker.domain_name()}"
            ),
            "written": lambda fake: fake.faker.email().replace("@", " (at) "),
            "underscore": lambda fake: (
                f"_{fake.faker.user_name()}_{fake.rng.randrange(100)}@{fake.faker.domain_name()}"
            ),
            "numbers": lambda fake: f"{fake.rng.randrange(10**6)}@{fake.faker.domain_name()}",
        },
        "last": {
            "written out": lambda fake: fake.faker.email().replace("@", " [at] ").replace(".", " [dot] "),
            "umlaut": lambda fake: f"jürgen.{fake.faker.user_name()}@{fake.faker.domain_name()}",
            "long": lambda fake: f"{fake.faker.user_name()}.{fake.faker.user_name()}@a.b.{fake.faker.domain_name()}",
            "punycode": lambda fake: f"{fake.faker.user_name()}@xn--bcher-kva.example",
        },
    },
    "phone": {group: {"faker": lambda fake: fake.faker.phone_number()} for group in LOCALES},
    "card": {
        "dev": {
            "plain": _card,
            "fours": lambda fake: _spaced(_card16(fake)),
            "dashes": lambda fake: _spaced(_card16(fake), by="-"),
        },
        "held": {"amex": _amex, "hard spaces": lambda fake: _spaced(_card16(fake), by="\u00a0"), "plain": _card},
        "last": {
            "dots": lambda fake: _spaced(_card16(fake), by="."),
            "all in fours": lambda fake: _spaced(_card(fake)),
            "plain": _card,
        },
    },
    "iban": {
        "dev": {"plain": _iban, "fours": lambda fake: _spaced(_iban(fake))},
        "held": {"small": lambda fake: _iban(fake).lower(), "dashes": lambda fake: _spaced(_iban(fake), by="-")},
        "last": {"hard spaces": lambda fake: _spaced(_iban(fake), by="\u00a0"), "plain": _iban},
    },
    "ip": {
        "dev": {
            "public": lambda fake: fake.faker.ipv4_public(),
            "private": lambda fake: fake.faker.ipv4_private(),
            "v6": _v6,
            "short v6": _short_v6,
        },
        "held": {
            "capital v6": lambda fake: _v6(fake).upper(),
            "v4": lambda fake: fake.faker.ipv4(),
            "faker v6": lambda fake: fake.faker.ipv6(),
        },
        "last": {
            "mapped": lambda fake: f"::ffff:{fake.faker.ipv4()}",
            "link": lambda fake: f"fe80::{fake.rng.randrange(1 << 16):x}:{fake.rng.randrange(1 << 16):x}",
        },
    },
    "ssn": {
        "dev": {"dashes": _ssn, "spaces": lambda fake: _ssn(fake).replace("-", " ")},
        "held": {"bare": lambda fake: _ssn(fake).replace("-", ""), "itin": lambda fake: _seeded("en_US", fake).itin()},
        "last": {
            "invalid": lambda fake: _seeded("en_US", fake).invalid_ssn(),
            "dots": lambda fake: _ssn(fake).replace("-", "."),
        },
    },
    "national_id": {group: {"faker": _national} for group in LOCALES},
    "secret": {
        "dev": {
            "aws": lambda fake: "AKIA" + _chars(fake, 16, CAPITALS),
            "github": lambda fake: "ghp_" + _chars(fake, 36),
            "openai": lambda fake: "sk-proj-" + _chars(fake, 48),
            "slack": lambda fake: f"xoxb-{_chars(fake, 11, string.digits)}-{_chars(fake, 24)}",
            "jwt": _jwt,
            "pem": _pem,
            "api_key=": lambda fake: _chars(fake, 32, HEX),
        },
        "held": {
            "stripe": lambda fake: "sk_live_" + _chars(fake, 24),
            "google": lambda fake: "AIza" + _chars(fake, 35),
            "AWS_SECRET_ACCESS_KEY=": lambda fake: _chars(fake, 40, string.ascii_letters + string.digits + "/+"),
            "Authorization: Bearer ": lambda fake: _chars(fake, 40),
            '"client_secret": "': lambda fake: _chars(fake, 32, string.ascii_letters + string.digits + "_-"),
            "pat": lambda fake: f"github_pat_{_chars(fake, 22)}_{_chars(fake, 59)}",
        },
        "last": {
            "gitlab": lambda fake: "glpat-" + _chars(fake, 20),
            "hub": lambda fake: "hf_" + _chars(fake, 34, string.ascii_letters),
            "auth_token: ": lambda fake: _chars(fake, 24, string.ascii_lowercase + string.digits),
            "DB_PASSWORD=": lambda fake: fake.faker.password(12),
            "x-api-key: ": lambda fake: str(fake.faker.uuid4()),
            "sendgrid": lambda fake: f"SG.{_chars(fake, 22)}.{_chars(fake, 43)}",
        },
    },
    "date_of_birth": {
        "dev": {"iso": _born("%Y-%m-%d"), "slashes": _born("%d/%m/%Y"), "dots": _born("%d.%m.%Y"), "named": _named},
        "held": {"US": _born("MONTH DAY, %Y"), "dashes": _born("%d-%m-%Y"), "short": _born("%m/%d/%y")},
        "last": {
            "slashed iso": _born("%Y/%m/%d"),
            "ordinal": _born("DAYth of MONTH %Y"),
            "abbreviated": _born("%d %b %Y"),
            "spaced": _born("%d. %m. %Y"),
        },
    },
    "url_credentials": {
        "dev": {"https": _url("https"), "postgres": _url("postgresql")},
        "held": {
            "token": lambda fake: f"https://{fake.faker.domain_name()}/v1/files?id=4&access_token={_chars(fake, 24)}",
            "git": _url("git+https"),
        },
        "last": {
            "mongo": _url("mongodb+srv"),
            "signed": lambda fake: (
                f"https://{fake.faker.domain_name()}/a.zip?Expires=1700000000&Signature={_chars(fake, 30)}"
            ),
        },
    },
    "name": {group: {"faker": lambda fake: f"{fake.faker.first_name()} {fake.faker.last_name()}"} for group in LOCALES},
    "address": {group: {"faker": lambda fake: fake.faker.street_address().replace("\n", ", ")} for group in LOCALES},
}


def _sentence(kind: str, format: str, fake: Fake) -> str:
    if kind == "secret":
        if format.endswith(("=", " ", '"')):
            return f"{format}{{}}" + ('"' if format.endswith('"') else "")
        return fake.rng.choice(("The key {} leaked.", "export KEY={}", "I pasted {} by mistake", "token: {}"))
    if kind == "national_id" and fake.locale in NATIONAL_SENTENCES and fake.rng.random() < 0.7:
        return NATIONAL_SENTENCES[fake.locale]
    if format == "mailto":
        return "Use mailto:{} instead."
    local = LOCAL_SENTENCES.get(fake.locale[:2], {}).get(kind, ())
    return fake.rng.choice(local) if local and fake.rng.random() < 0.6 else fake.rng.choice(SENTENCES[kind])


def make(
    count: int = 2000, *, group: str | None = None, seed: int = 0, kinds: tuple[str, ...] = STRUCTURED + LOOSE
) -> list[Item]:
    """`count` items, as many of each kind and group. The same seed gives the same items."""
    rng = random.Random(seed)
    state = random.getstate()
    random.seed(seed)  # faker's Spanish numbers come from the global generator
    fakers = {}
    for locale in [locale for locales in LOCALES.values() for locale in locales]:
        fakers[locale] = Faker(locale)
        fakers[locale].seed_instance(f"{seed}-{locale}")
    groups = list(LOCALES) if group is None else [group]
    items = []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        where = groups[number // len(kinds) % len(groups)]
        locales = [name for name in LOCALES[where] if kind != "national_id" or name not in WITHOUT_NUMBER]
        locale = rng.choice(locales)
        fake = Fake(fakers[locale], rng, locale)
        format = rng.choice(sorted(FORMATS[kind][where]))
        value = FORMATS[kind][where][format](fake)
        before, after = _sentence(kind, format, fake).split("{}")
        head = " ".join(rng.sample(FILLER, rng.randrange(0, 3)))
        tail = " ".join(rng.sample(FILLER, rng.randrange(0, 3)))
        lead = f"{head} {before}" if head else before
        text = f"{lead}{value}{after}" + (f" {tail}" if tail else "")
        items.append(Item(text, len(lead), len(lead) + len(value), kind, where, format, locale))
    random.setstate(state)
    return items
