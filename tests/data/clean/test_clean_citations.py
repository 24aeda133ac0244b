"""Citations and identifiers: every spelling to one, and patterns of the user that cannot hang the run."""

import time
from typing import Any

import pytest
from pydantic import ValidationError

from attune.data.clean.citations import Citations
from attune.data.steps import apply_edits
from attune.errors import DataError


def after(text: str, **options: Any) -> str:
    step = Citations(Citations.Config(**options))
    return apply_edits(text, step.edits(text))


@pytest.mark.parametrize(
    "written",
    [
        "O.C.G.A. § 34-9-1", "OCGA 34-9-1", "O.C.G.A. 34-9-1", "OCGA § 34-9-1", "OCGA §34-9-1", "Ga. Code § 34-9-1",
        "Ga. Code Ann. 34-9-1", "Ga. Code Ann., § 34-9-1", "o.c.g.a. sec. 34-9-1", "O.C.G.A. Section 34-9-1",
        "OCGA Sec. 34-9-1", "O. C. G. A. §34-9-1", "OCGA § 34–9–1", "OCGA 34 - 9 - 1", "ocga section 34-9-1",
        "Official Code of Georgia Annotated § 34-9-1", "O.C.G.A. §§ 34-9-1", "O.C.G.A.\u00a0§\u00a034-9-1",
    ],
)  # fmt: skip
def test_georgia_code_in_its_spellings(written: str) -> None:
    assert after(f"Under {written}. Benefits") == "Under O.C.G.A. § 34-9-1. Benefits"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("OCGA 34-9-200.1 (a)(2)", "O.C.G.A. § 34-9-200.1(a)(2)"),
        ("42 USC 1983, 42 U.S.C.A. § 1983(b)", "42 U.S.C. § 1983, 42 U.S.C. § 1983(b)"),
        ("42 U. S. C. Section 2000e-5", "42 U.S.C. § 2000e-5"),
        ("29 CFR 1910.134; 29 C.F.R. sec. 1910.134(a)", "29 C.F.R. § 1910.134; 29 C.F.R. § 1910.134(a)"),
        ("ICD10: m54.5, ICD-10-CM code M54.50, icd 10 s83.2xxa", "ICD-10 M54.5, ICD-10 M54.50, ICD-10 S83.2XXA"),
        ("case number 21 cv 1234", "Case No. 21-CV-1234"),
        ("Docket # 1:21-cv-01234; claim no. 2021-wc-00123", "Case No. 1:21-CV-01234; Claim No. 2021-WC-00123"),
        ("12 USC students, 5 us citizens, file no 12 of 15, case no 5", None),
        ("34-9-1 and 404-555-0112", None),
    ],
)
def test_other_families(text: str, expected: str | None) -> None:
    assert after(text) == (expected or text)


def test_families_are_chosen() -> None:
    assert after("OCGA 34-9-1, 42 USC 1983", families=["usc"]) == "OCGA 34-9-1, 42 U.S.C. § 1983"


def test_own_patterns() -> None:
    patterns = [{"find": r"(?i)pol(?:icy)?[ #-]*(\d{6})", "to": r"Policy \1"}, {"find": "Acme Inc", "to": "ACME"}]
    assert (
        after("pol#123456 of Acme Inc., OCGA 34-9-1", patterns=patterns) == "Policy 123456 of ACME., O.C.G.A. § 34-9-1"
    )


def test_many_kinds_in_one_text_are_not_too_many() -> None:
    patterns = [{"find": f"word{letter}", "to": letter} for letter in "abcdefghijklmnop"]
    text = "OCGA 34-9-1 42 USC 1983 29 CFR 1910.134 ICD10 m54.5 case number 21 cv 12 " + " ".join(
        p["find"] for p in patterns
    )
    assert after(text, patterns=patterns).endswith("Case No. 21-CV-12 a b c d e f g h i j k l m n o p")


@pytest.mark.parametrize(
    ("find", "to", "says"),
    [
        ("([", "x", "unterminated"),
        ("a", r"\2", "no such group"),
        ("a", r"\g<name>", "unknown group"),
        ("a*", "b", "matches the empty text"),
        ("x" * 501, "y", "longer than 500"),
        ("(" * 400, "y", "'"),
        (r"(a|aa)+$", "x", "too slow"),
        (r"(\w+\s?)*x$", "x", "too slow"),
        (r"(x+x+)+y", "z", "too slow"),
    ],
)
def test_a_bad_or_slow_pattern_is_refused(find: str, to: str, says: str) -> None:
    started = time.monotonic()
    with pytest.raises(ValidationError, match=says):
        Citations.Config.model_validate({"patterns": [{"find": find, "to": to}]})
    assert time.monotonic() - started < 10


def test_a_pattern_that_is_slow_only_on_the_data_is_stopped() -> None:
    step = Citations(Citations.Config.model_validate({"patterns": [{"find": r"(?:\u20ac|\u20ac\u20ac)+$", "to": "x"}]}))
    with pytest.raises(DataError, match="too slow"):
        step.edits("€" * 5000 + "!")


@pytest.mark.parametrize(
    "patterns", [[("a", "aa")], [("a", "b"), ("b", "a")]], ids=["finds its own result", "undo one another"]
)
def test_patterns_without_an_end_are_an_error(patterns: list[tuple[str, str]]) -> None:
    step = Citations(Citations.Config.model_validate({"patterns": [{"find": f, "to": t} for f, t in patterns]}))
    with pytest.raises(DataError, match="its own result") as caught:
        step.edits("a cat")
    assert "fix" in str(caught.value)
