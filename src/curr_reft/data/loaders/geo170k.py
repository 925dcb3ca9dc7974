"""Geo170K (Gao et al. 2023, G-LLaVA, arXiv 2312.11370): 117,205 geometry questions with worked solutions
(``qa_tuning``). The file ``alignment`` holds captions and no answers.

Its solutions end with ``Answer:B``; the letter is one of the options that the question lists (``Choices: A:25° ...``).
"""

from collections.abc import Iterator

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.final_answer import final_answer
from curr_reft.data.loaders.llava_turns import Turns, conversation_rows
from curr_reft.data.rows import RowOrBad


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a question. Raises DataError."""
    return conversation_rows(entry, read)


def read(turns: Turns) -> tuple[str, str]:
    """The question as it is, and the announced answer. Raises ValueError."""
    return turns.question, final_answer(turns.solution, turns.question)
