"""What each detector finds and what it leaves alone, and that none of its patterns can be made slow."""

import importlib
import pkgutil
import re
import time

import pytest

import attune.data.privacy.detectors as room
from attune.data.privacy.detectors import detectors, kinds
from attune.data.privacy.find import Finder, find

FOUND = [
    (
        "email",
        "Mail {} now.",
        [
            "j.o'neil+x@mail.example.co.uk",
            "ANN@EXAMPLE.COM",
            "jürgen@bücher.example",
            '"a b"@example.org',
            "ann (at) example (dot) org",
            "1234@example.com",
        ],
    ),
    (
        "phone",
        "Call {} today.",
        [
            "+1 (555) 010-9999 x12",
            "555-0109",
            "(706) 555-0115",
            "+49 30 1234567",
            "0049 30 1234567",
            "06 12 34 56 78",
            "612 345 678",
            "5550109999",
            "+81-3-1234-5678",
            "8 (912) 345-67-89",
            "(011) 2345-6789",
            "+15550109999",
        ],
    ),
    (
        "phone",
        "The desk, {}, is shut.",
        ["555-123-4567", "555.123.4567", "(555) 123-4567", "+44 20 7946 0018", "020 7946 0018", "98765 43210"],
    ),
    (
        "card",
        "Paid with {}.",
        ["4111 1111 1111 1111", "4111-1111-1111-1111", "4111111111111111", "3782 822463 10005", "5555.5555.5555.4444"],
    ),
    (
        "iban",
        "To {} please.",
        ["DE89 3704 0044 0532 0130 00", "de89370400440532013000", "GB82-WEST-1234-5698-7654-32", "NO9386011117947"],
    ),
    (
        "ip",
        "From {}, refused.",
        [
            "10.0.0.12",
            "203.0.113.255",
            "2001:db8::ff00:42:8329",
            "fe80::1:2",
            "2001:0DB8:0000:0000:0000:FF00:0042:8329",
            "::ffff:192.0.2.1",
        ],
    ),
    ("ssn", "SSN {}", ["000-12-3456", "123 45 6789", "123456789"]),
    (
        "national_id",
        "Identity: {} ok",
        [
            "AB 12 34 56 C",
            "12345678Z",
            "RSSMRA85T10A562S",
            "44051401359",
            "850709-9805",
            "131052-308T",
            "756.1234.5678.97",
            "111.444.777-35",
        ],
    ),
    ("national_id", "Passport number: {}.", ["C01X00T47", "123456789"]),
    (
        "secret",
        "key {} leaked",
        [
            "AKIAIOSFODNN7EXAMPLE",
            "ghp_" + "a1B2" * 9,
            "sk-proj-" + "aB3d" * 8,
            "xoxb-12345678901-abcdefABCDEF",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc_DEF",
        ],
    ),
    ("secret", "api_key={}", ["3f9a8b7c6d5e4f3a2b1c"]),
    ("secret", "my password is {} so", ["hunter2!"]),
    (
        "date_of_birth",
        "She was born on {}.",
        ["3 March 1980", "1980-03-03", "03/03/1980", "3.3.1980", "March 3, 1980", "3rd of March 1980"],
    ),
    (
        "url_credentials",
        "see {} for it",
        ["postgres://bob:pw12@db.example.com/x", "https://a.example/f?id=1&access_token=abcdef123"],
    ),
    ("name", "I met {} there.", ["Karen Easton", "Jean-Pierre Dupont", "José de la Cruz"]),
    (
        "address",
        "He lives at {}.",
        [
            "12 Main Street, Springfield, IL 62704",
            "Hauptstraße 5, 10115 Berlin",
            "12 rue de la Paix, 75002 Paris",
            "Via Roma 12",
            "Calle Mayor 4",
        ],
    ),
]

LEFT = [
    "We paid $1,234,567.00 on 01/02/2024 to 12345678 people.",
    "See O.C.G.A. § 34-9-200 and sections 12.4.1 and 12.4.2.",
    "Version 2.14.0.3 came after v1.2.3.4 at 12:30:45.",
    "Open 09:00-17:00 or 0900-1700, pages 120-145, season 2023-2024.",
    "Case no. 2024-118-4471, order 5517734120, docket 1:22-cv-01234.",
    "ISBN 978-3-16-148410-0, part 4711-0815-22, batch 000123456789.",
    "The sum of 12 345 678 and 1.234.567,89 EUR, a ratio of 0.33333333.",
    "It was filed on 2024-11-05 and heard on 8 Dec 2024.",
    "std::vector<int> x; a::b; cat @home; 5 @ 3 each",
    "My card is not working and I need a new PIN for my account.",
    "The password is wrong. The token is invalid. The secret is out.",
    "May I ask Will the bank of New York Hotel Street?",
    "[EMAIL] called [PHONE] about [DATE_OF_BIRTH] at [ADDRESS].",
]


@pytest.mark.parametrize(("kind", "sentence", "values"), FOUND)
def test_finds_the_whole_value_and_no_more(kind: str, sentence: str, values: list[str]) -> None:
    for value in values:
        text = sentence.format(value)
        assert [(text[hit.start : hit.end], hit.kind) for hit in find(text)] == [(value, kind)], text


@pytest.mark.parametrize("text", LEFT)
def test_leaves_what_only_looks_like_it(text: str) -> None:
    assert [(text[hit.start : hit.end], hit.kind) for hit in find(text)] == []


def test_private_key_blocks_are_found_whole_and_cut_off() -> None:
    block = "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----"
    assert find(f"x {block} y")[0][:3] == (2, 2 + len(block), "secret")
    assert find("x -----BEGIN PRIVATE KEY-----\nMIIabc")[0].end == len("x -----BEGIN PRIVATE KEY-----\nMIIabc")


def test_a_person_named_once_is_known_again_by_the_surname() -> None:
    text = "Karen Easton was hurt. The file says that Easton healed."
    assert [text[hit.start : hit.end] for hit in find(text)] == ["Karen Easton", "Easton"]


def test_kept_values_and_other_kinds_are_left() -> None:
    text = "Call +1 (555) 010-9999 or write to desk@example.com"
    assert [hit.kind for hit in Finder(keep=["+1 555 0109999"])(text)] == ["email"]
    assert [hit.kind for hit in Finder(["phone"])(text)] == ["phone"]


def test_hits_are_in_order_and_do_not_overlap() -> None:
    text = " ".join(sentence.format(value) for _, sentence, values in FOUND for value in values)
    hits = find(text)
    assert all(a.end <= b.start for a, b in zip(hits, hits[1:]))
    assert {hit.kind for hit in hits} == set(kinds())


def patterns() -> list[tuple[str, re.Pattern[str]]]:
    found: dict[re.Pattern[str], str] = {}
    for item in pkgutil.iter_modules(room.__path__):
        module = importlib.import_module(f"{room.__name__}.{item.name}")
        for name, value in vars(module).items():
            for number, one in enumerate(value if isinstance(value, tuple) else [value]):
                for pattern in one if isinstance(one, tuple) else [one]:
                    if isinstance(pattern, re.Pattern):
                        found.setdefault(pattern, f"{item.name}.{name}.{number}")
    return [(name, pattern) for pattern, name in found.items()]


PATTERNS = patterns()
UNITS = [
    "a",
    "A",
    "1",
    " ",
    ".",
    "-",
    "@",
    ":",
    "/",
    "a.",
    "a@",
    "A ",
    "Aa ",
    "Aa-",
    "1 ",
    "1-",
    "1.",
    "0 1",
    "a:",
    "::",
    "a=",
    "a_",
    "(1",
    "+1 ",
    "a1",
    "A1 ",
    "[",
    '"',
    "\n",
    "http://a",
    "https://a?a=a&",
    "a://a:a",
    "api_key=",
    "password is ",
    "-----BEGIN PRIVATE KEY-----",
    "eyJaaaaaaaa.",
    "Dr. ",
    "Dear Ann ",
    "born ",
    "1 Main St, ",
    "rue de la ",
    "Calle Aa ",
    "call 555",
    "ann (at) a dot ",
    "AA11 ",
    "national id ",
    "1,000 ",
    "é",
    "Ä.",
    "12:30",
    "von der ",
    "no. ",
    "key",
    "2001:db8:",
]


@pytest.mark.parametrize(("name", "pattern"), PATTERNS, ids=[name for name, _ in PATTERNS])
def test_every_pattern_is_linear(name: str, pattern: re.Pattern[str]) -> None:
    """100 kB of each unit within half a second; what takes 20 kB under 20 ms would do so even if it were quadratic."""

    def seconds(size: int) -> float:
        text = (unit * (size // len(unit) + 1))[:size] + "!"
        started = time.process_time()
        for _ in pattern.finditer(text):
            pass
        return time.process_time() - started

    for unit in UNITS:
        assert seconds(20_000) <= 0.02 or seconds(100_000) <= 0.5, (name, unit)


@pytest.mark.parametrize("module", detectors(), ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_detector_is_linear(module) -> None:
    for unit in UNITS:
        text = (unit * (20_000 // len(unit) + 1))[:20_000]
        started = time.process_time()
        module.find(text)
        once = time.process_time() - started
        if once > 0.15:  # slow per character: then four times the text may cost about four times as much
            started = time.process_time()
            module.find(text * 4)
            assert time.process_time() - started <= 8 * once, (module.__name__, unit, once)
        assert once <= 2.0, (module.__name__, unit, once)


@pytest.mark.parametrize("unit", ["555-0109\n", '"a b"@example.org', "(706) 555-0115, "])
def test_one_find_does_not_lead_to_the_next_along_the_text(unit: str) -> None:
    """A masked value is no context for its neighbour: thousands in a row take a few passes, not one pass each."""
    started = time.process_time()
    find("Call " + unit * (20_000 // len(unit)))
    assert time.process_time() - started <= 5
