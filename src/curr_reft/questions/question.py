"""Question: an Item in one form, with the text the model reads and the truth of that form.

The forms that build and score questions stand in ``forms.py``; this file holds only the record they hand over.
"""

from dataclasses import dataclass
from typing import Any

from curr_reft.data.item import ImageSource, Truth


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a rollout asks and a grader grades. Boxes are in the frame the model answers in."""

    id: str  # "{origin}/{form}"
    origin: str  # Item.id: one item never stands in two splits, whatever its form
    task: str  # a key of tasks.TASKS
    form: str  # a key of forms.FORMS: binary, choice, open
    prompt: str  # the user's turn as the model reads it (chat template not yet applied)
    truth: Any  # binary: bool; choice: frozenset of letters; open: the task's truth, boxes in the model's frame
    images: tuple[ImageSource, ...] = ()
    options: tuple[str, ...] = ()  # choice: the text of options A, B, C, ... as shown
    claims: tuple[Truth, ...] = ()  # binary: what is claimed; choice: what options A, B, C, ... claim
    wrong_kinds: tuple[str, ...] = ()  # of the false ones among the claims: where they came from, for the card
    split: str = "train"
    source: str = ""
    domain: str = ""
