"""LLaVA-CoT-100k (Xu et al. 2024, arXiv 2411.10440): ``train.jsonl``, general questions with solutions in four parts
(``<SUMMARY>``, ``<CAPTION>``, ``<REASONING>``, ``<CONCLUSION>``).

The answer is the conclusion, where it is a letter, a number or a few words; one that is a sentence cannot be verified
and its row is a bad one, with the reason.
"""

import re
from collections.abc import Iterator

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.final_answer import final_answer
from curr_reft.data.loaders.llava_turns import Turns, conversation_rows
from curr_reft.data.rows import RowOrBad

MOST_WORDS = 3

_CONCLUSION = re.compile(r"<CONCLUSION>(.*?)</CONCLUSION>", re.DOTALL)


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a question. Raises DataError."""
    return conversation_rows(entry, read)


def read(turns: Turns) -> tuple[str, str]:
    """The question as it is, and the conclusion. Raises ValueError."""
    found = _CONCLUSION.findall(turns.solution)
    if len(found) != 1:
        raise ValueError(f"its solution has {len(found)} conclusions; one is needed")
    conclusion = found[0].strip()
    # A bare "B" or "12" announces nothing; read as one that does, it passes the same rules.
    if len(conclusion.split()) <= MOST_WORDS:
        conclusion = f"Answer: {conclusion}"
    return turns.question, final_answer(conclusion, turns.question)
