"""Numbers: money, thousands and units in one spelling."""

from typing import Any

import pytest
from pydantic import ValidationError

from attune.data.clean.numbers import Numbers
from attune.data.steps import apply_edits


def after(text: str, **options: Any) -> str:
    step = Numbers(Numbers.Config(**options))
    return apply_edits(text, step.edits(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,200.50 USD", "1200.50 USD"),
        ("$1,200.5", "1200.50 USD"),
        ("US$ 1,200.50", "1200.50 USD"),
        ("$5,725, $5725.00 or 5,725 dollars.", "5725 USD, 5725 USD or 5725 USD."),
        ("€3.50 or 3.50 €, £1,000 GBP, $5 CAD", "3.50 EUR or 3.50 EUR, 1000 GBP, 5 CAD"),
        ("$1.2 million, $5k", "$1.2 million, $5k"),
        ("$0.0025", "0.0025 USD"),
        ("paid $9,800. Then", "paid 9800 USD. Then"),
        ("1,234,567 rows, 12,34 and 1,2", "1234567 rows, 12,34 and 1,2"),
        ("5 kgs. The 5kg, 5 kilograms", "5 kg. The 5 kg, 5 kg"),
        ("2 hrs and 1 hr", "2 hours and 1 hour"),
        ("8 percent. then 8 %, 8 per cent", "8%. then 8%, 8%"),
        ("a 5-year plan, 5 years, 3 minute timer", "a 5-year plan, 5 years, 3 minute timer"),
        ("6 feet, 3 inches, 10 in the box", "6 ft, 3 in, 10 in the box"),
        ("61 y/o, 34-9-1, 404-555-0112, 2024-12-08, 12:30", "61 y/o, 34-9-1, 404-555-0112, 2024-12-08, 12:30"),
    ],
)
def test_numbers(text: str, expected: str) -> None:
    assert after(text) == expected


def test_options() -> None:
    text = "$1,200 for 1,200 kgs"
    assert after(text, money=False) == "$1,200 for 1200 kg"
    assert after(text, units=False) == "1200 USD for 1200 kgs"
    assert after(text, units=False, thousands=False) == "1200 USD for 1,200 kgs"
    assert after(text, dollar="CAD") == "1200 CAD for 1200 kg"
    assert after("1.200,50 EUR, 3,5 kgs, 1.234.567, 1.200", decimal=",") == "1200.50 EUR, 3.5 kg, 1234567, 1.200"
    with pytest.raises(ValidationError):
        Numbers.Config(dollar="dollars")
