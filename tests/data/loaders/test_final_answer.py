"""The answer that a worked solution announces, or the reason why there is none: never a guess."""

import pytest

from curr_reft.data.loaders.final_answer import final_answer, listed_letters

GEO = "As shown in the figure, AB is parallel to CD. Then angle 1 is ()\nChoices:\nA:25°\nB:65°\nC:35°\nD:45°"
MATH = "What fraction of the shape is blue?\nChoices:\n(A) 3/11\n(B) 8/11\n(C) 6/11\n(D) 3/5"
OPEN = "How many cubes are there?"

STATED = [
    (GEO, "Since the angles add up, angle 1 is 65°. Therefore, the answer is B.\nAnswer:B", "B"),
    (GEO, "It is 65°. So the correct answer is option B: 65°. Answer: B.", "B"),
    (MATH, "The answer is B", "B"),
    (MATH, "The answer is (B) 8/11", "B"),
    (MATH, "The correct option is: B. 8/11", "B"),
    (MATH, "8 of 11 parts. **Answer: B**", "B"),
    (OPEN, "The answer is 100", "100"),
    (OPEN, "The answer is 10^4.", "10^4"),
    (OPEN, "There are 3 + 4 of them, so \\boxed{7}.", "7"),
    (OPEN, "It is $\\boxed{\\frac{1}{2}}$", "\\frac{1}{2}"),
    (OPEN, "The answer is -0.5", "-0.5"),
    (OPEN, "The answer is yes", "yes"),
    (OPEN, "Answer: [2007, 2008]", "[2007, 2008]"),
    # The first announcement states a value, the last one the option that has it.
    (GEO, "So the answer is 65°.\nAnswer:B", "B"),
]


@pytest.mark.parametrize(("question", "solution", "answer"), STATED, ids=range(len(STATED)))
def test_stated_answers(question: str, solution: str, answer: str) -> None:
    assert final_answer(solution, question) == answer


NOT_STATED = [
    (GEO, "Angle 1 is 65°, which is option B.", "announces no answer"),
    (OPEN, "There are seven cubes in the picture.", "announces no answer"),
    (OPEN, "", "announces no answer"),
    (GEO, "Therefore, the answer is", "ends where the answer should stand"),
    (GEO, "The answer is B. But wait", "none of the options"),
    (GEO, "The answer is (B) 35 degrees", "none of the options"),
    (GEO, "Answer:", "ends where the answer should stand"),
    (GEO, "The answer is B. But wait. It may be C as well.", "is no short answer"),
    (GEO, "The answer is B\nbecause the sides are parallel", "is no short answer"),
    (OPEN, "The answer is " + "very " * 20 + "large", "is no short answer"),
    (GEO, "Answer:E", "none of the options A, B, C, D"),
    (GEO, "Answer:65°", "none of the options A, B, C, D"),
    (MATH, "The answer is A dog", "none of the options"),
    (GEO, "The answer is A. No, it is larger. Answer:B", "announces A and then B"),
    (OPEN, "The answer is B", "the question lists no options"),
    (OPEN, "The answer is (C).", "the question lists no options"),
    (OPEN, "\\boxed{7} is what I first thought of these", "announces no answer"),
]


@pytest.mark.parametrize(("question", "solution", "reason"), NOT_STATED, ids=range(len(NOT_STATED)))
def test_what_is_not_stated_is_not_guessed(question: str, solution: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        final_answer(solution, question)


@pytest.mark.parametrize(
    ("question", "letters"),
    [
        (GEO, ("A", "B", "C", "D")),
        (MATH, ("A", "B", "C", "D")),
        ("Which one? A. red B. blue", ("A", "B")),
        ("Triangle A: how large is it?", ()),
        (OPEN, ()),
        ("B. blue C. red", ()),
    ],
)
def test_listed_letters(question: str, letters: tuple[str, ...]) -> None:
    assert listed_letters(question) == letters
