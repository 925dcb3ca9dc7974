"""What is decided by text and exact fractions, and what is refused before any computer algebra."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curr_reft.tasks import TASKS
from curr_reft.tasks.expression import LatexPair, clean, compare, to_latex, too_costly
from curr_reft.tasks.quantities import plain_number, split_unit

MATH = TASKS["math"]
rationals = st.fractions(min_value=-(10**6), max_value=10**6, max_denominator=10**4)


@given(rationals)
def test_plain_numbers_are_exact(value: Fraction) -> None:
    for text in (f"{value.numerator}/{value.denominator}", f"\\frac{{{value.numerator}}}{{{value.denominator}}}"):
        number = plain_number(text)
        assert number is not None
        assert number.value == value


@given(rationals, rationals)
def test_fractions_are_equal_exactly_when_their_values_are(first: Fraction, second: Fraction) -> None:
    assert compare(str(first), str(second)) is (first == second)


@given(st.integers(-(10**12), 10**12))
def test_thousands_may_be_separated(value: int) -> None:
    assert compare(str(value), f"{value:,}") is True


@given(st.text() | st.text(alphabet="\\{}$^_()[]0123456789.,+-*/=<>!%√πxyab sqrtfrac", max_size=50))
def test_no_text_makes_parsing_raise_and_cleaning_settles(text: str) -> None:
    parsed = MATH.parse(text)
    if parsed is not None:
        assert MATH.parse(MATH.write(parsed)) == parsed
    assert compare("2\\sqrt{3}", text) in (True, False) or compare("2\\sqrt{3}", text)
    to_latex(text)
    split_unit(text)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("12 cm", "12", "cm"),
        ("12cm^2", "12", "cm2"),
        ("12 \\text{ cm}^2", "12", "cm2"),
        ("5m", "5m", ""),
        ("5 m", "5", "m"),
        ("60^{\\circ}", "60", "deg"),
        ("60°", "60", "deg"),
        ("3 square units", "3", "unit2"),
        ("x", "x", ""),
        ("25π cm", "25π", "cm"),
        ("4 km/h", "4", "km/h"),
        ("9 square inches", "9", "in2"),
        ("12 centimeters", "12", "cm"),
        ("5 Mm", "5", "Mm"),
        ("5 mm", "5", "mm"),
        ("5 MW", "5", "MW"),
        ("5 min.", "5", "min"),
        ("9.8 \\text{ m/s}^2", "9.8", "m/s2"),
        ("9.8 m s^{-2}", "9.8", "m/s2"),
        ("8 grams per cubic centimeter", "8", "g/cm3"),
        ("25^{\\circ}\\text{C}", "25", "°C"),
        ("42 N", "42", "N"),
        ("42 A", "42 A", ""),
        ("42 \\text{ dozen}", "42 \\text{ dozen}", ""),
    ],
)
def test_units_are_taken_off(text: str, value: str, unit: str) -> None:
    assert split_unit(text, trusted="N") == (value, unit)


def test_a_letter_is_a_unit_beside_a_truth_with_that_unit_only() -> None:
    assert split_unit("5m", "m") == ("5", "m")
    assert split_unit("5m", "cm") == ("5m", "")
    assert split_unit("5 A", "A") == ("5", "A")
    assert compare("5", "5 A") is False


@pytest.mark.parametrize(
    "text",
    [
        "10**10**10",
        "9^9^9",
        "9^{9^{9}}",
        "(9^9)^9^9",
        "10^{100000}",
        "10^-100000",
        "99999!",
        "5!!",
        "(5!)!",
        "1" * 41,
        "(" * 21 + "1" + ")" * 21,
        "x+" * 200,
        "factorial(5)",
        "{2}^{{3}^{40}}",
    ],
)
def test_costly_forms_are_refused(text: str) -> None:
    assert too_costly(text)
    assert MATH.parse(text) is None
    with pytest.raises(ValueError, match="cannot be verified"):
        MATH.read_truth(text)


@pytest.mark.parametrize("text", ["2^{10}", "3!", "10^{12}", "\\sqrt{\\frac{1}{2}}", "2^{2^{3}}", "x^{2}+y^{2}", "1e9"])
def test_ordinary_forms_are_not(text: str) -> None:
    assert not too_costly(text)
    assert MATH.parse(text) == text


def test_every_side_of_an_equation_has_to_be_the_truth() -> None:
    assert compare("42", "x = 42") is True
    assert compare("42", "17 = 42") is False
    assert compare("42", "5*8+2 = 42") == [LatexPair("42", "5\\cdot 8+2")]
    assert compare("x=42", "42") is True


@pytest.mark.parametrize("raw", [None, True, [], {}, "", "  ", "$$", float("nan"), float("inf")])
def test_what_is_no_truth_is_refused_with_a_reason(raw: object) -> None:
    with pytest.raises(ValueError, match=r".{5,}"):
        MATH.read_truth(raw)


@pytest.mark.parametrize(
    ("raw", "truth"),
    [
        ("#### 42", "42"),
        ("6 * 7 = <<6*7=42>>42 clips.\n#### 42", "42"),
        ("42<|im_end|>", "42"),
        ("42</s>\n", "42"),
        ("B<|eot_id|>", "B"),
        ("isosceles<end_of_turn>", "isosceles"),
        ("42<\uff5cend\u2581of\u2581sentence\uff5c>", "42"),
        ("\\textbf{(C)}\\ 12", "(C) 12"),
        ("$\\textbf{(C) }\\frac{1}{2}$", "(C) \\frac{1}{2}"),
        ("Thus x is $\\boxed{42}$.", "42"),
        ("B. 12 cm", "B. 12 cm"),
        ("(B) isosceles", "(B) isosceles"),
        ("\u2205", "\u2205"),
        ("\\{\\}", "\\{\\}"),
        ("x < 3", "x < 3"),
    ],
)
def test_a_truth_as_a_model_would_write_it_is_read_as_what_it_means(raw: str, truth: str) -> None:
    assert MATH.read_truth(raw) == truth


@pytest.mark.parametrize("raw", ["B. cat", "E. coli", "A. Lincoln", "C: carbon dioxide"])
def test_a_letter_and_words_are_an_option_or_a_name_and_are_refused(raw: str) -> None:
    with pytest.raises(ValueError, match=f"write the letter alone \\({raw[0]!r}\\)"):
        MATH.read_truth(raw)


def test_truths_are_cleaned_once_and_for_all() -> None:
    assert MATH.read_truth("$\\boxed{42}$.") == "42" == MATH.read_truth(42) == MATH.read_truth(42.0)
    assert MATH.read_truth(0.5) == "0.5"
    assert clean(clean("The answer is $x$.")) == "x"


@given(st.text() | st.text(alphabet="\\{}$^_()[]0123456789.,+-*/=<>!%√πxyABC sqrtfrac≈", max_size=30))
def test_every_truth_written_out_scores_1(text: str) -> None:
    try:
        truth = MATH.read_truth(text)
    except ValueError:
        return
    parsed = MATH.parse(MATH.write(truth))
    assert parsed == truth
    assert compare(truth, parsed) is True


@pytest.mark.parametrize(
    ("truth", "answer", "equal"),
    [
        ("1/3", "0.333333", True),
        ("2/3", "0.666666", True),
        ("2/3", "0.6666667", True),
        ("1/3", "0.33333", False),
        ("1/2", "0.5000001", False),
        ("5", "5.0000001", False),
        ("1000000.0", "1000001", False),
        ("3.464102", "3.4641016", True),
        ("3.14", "3.14159", False),
        ("0.0000001", "0.0000002", False),
        ("0", "0.0000001", False),
        ("0.5", "50%", True),
        ("50%", "0.5", True),
        ("50", "50%", True),
        ("50%", "5", False),
    ],
)
def test_a_decimal_stands_for_a_value_only_with_six_digits(truth: str, answer: str, equal: bool) -> None:
    assert compare(truth, answer) is equal
