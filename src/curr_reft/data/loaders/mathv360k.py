"""MathV360K (Shi et al. 2024, Math-LLaVA, arXiv 2406.17294): ``train_samples_all_tuning.json``, 360,000 questions on
figures from 24 data sets, with short answers ("The answer is B").

Questions begin with a hint in MathVista's words ("Hint: Please answer the question and provide the correct option
letter, e.g., A, B, C, D, at the end. Question: ..."). It says how the answer is to be written, which the prompt of a
form says itself and differently, so the question begins behind it.
"""

import re
from collections.abc import Iterator

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.final_answer import final_answer
from curr_reft.data.loaders.llava_turns import Turns, conversation_rows
from curr_reft.data.rows import RowOrBad

_HINT = re.compile(r"^Hint:.*?\bQuestion:\s*", re.DOTALL | re.IGNORECASE)


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a question. Raises DataError."""
    return conversation_rows(entry, read)


def read(turns: Turns) -> tuple[str, str]:
    """The question behind its hint, and the announced answer. Raises ValueError."""
    question = _HINT.sub("", turns.question).removeprefix("Question:").strip()
    return question, final_answer(turns.solution, question)
