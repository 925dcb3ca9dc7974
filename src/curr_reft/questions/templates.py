"""How a question reads, per style, task and form. A template is data: a new task or wording is new lines here.

``short`` is the closed language of the embedded model. ``full`` is for instruction-tuned models: it names the form of
the completion (Curr-ReFT section 3: thinking and answer tags), the form of the answer, and the frame of its boxes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from curr_reft.data.frame import BoxFrame, FrameKind
from curr_reft.data.item import ImageSource
from curr_reft.errors import RecipeError

ANY = "*"  # a task without lines of its own reads these

FRAME_NAMES: dict[FrameKind, str] = {
    "pixels": "in pixels of {image} as shown ({width} wide, {height} high)",
    "thousand": "on a scale from 0 to 1000 across the width and height of {image}",
    "unit": "as fractions from 0 to 1 of the width and height of {image}",
}


def frame_words(frame: BoxFrame, images: Sequence[ImageSource]) -> str:
    """What a box is given in, for a question that shows ``images``: boxes are those of the first. Pixels are counted on
    the image the model sees, and no model is told by its processor how many those are, so that the words say it."""
    if not images:
        return ""
    width, height = frame.extent(images[0].size)
    image = "the image" if len(images) == 1 else "the first image"
    return FRAME_NAMES[frame.kind].format(image=image, width=round(width), height=round(height))


@dataclass(frozen=True, kw_only=True)
class Style:
    """Templates of one style. Fields: ``{question} {claim} {options} {frame}``; unused ones are left out."""

    name: str
    templates: Mapping[tuple[str, str], str]  # (task, line) -> text; a line is a form or one of its variants
    option_join: str  # between the options of a choice

    def prompt(
        self, task: str, line: str, *, question: str, claim: str = "", options: str = "", frame: str = ""
    ) -> str:
        """The user's turn. ``line`` is ``open``, ``binary``, ``binary_drawn`` (the claim is drawn on the image),
        ``choice``, ``choices`` (several letters may be right) or ``choice_own`` (the question lists its options
        itself); ``frame`` is what boxes are given in (``frame_words``)."""
        template = self.templates.get((task, line)) or self.templates[(ANY, line)]
        return template.format(question=question, claim=claim, options=options, frame=frame)

    def list_options(self, texts: tuple[str, ...]) -> str:
        """``A. red circle B. blue square``, joined as the style does."""
        return self.option_join.join(f"{chr(ord('A') + place)}. {text}" for place, text in enumerate(texts))


_THINK = (
    "First reason step by step between <think> and </think>, then give only the final answer between <answer> and "
    "</answer>."
)
_YES_NO = f"Is the statement true? {_THINK} The final answer is exactly one word: yes or no."
_LETTER = f"{_THINK} The final answer is the letter of the one right option."

_SHORT: dict[tuple[str, str], str] = {
    (ANY, "open"): "{question}.",
    (ANY, "binary"): "{question}. claim: {claim}. yes or no?",
    (ANY, "binary_drawn"): "{question}. claim: the red box. yes or no?",
    (ANY, "choice"): "{question}. {options}. which letter?",
    (ANY, "choices"): "{question}. {options}. which letters?",
    (ANY, "choice_own"): "{question}. which letter?",
}

_FULL: dict[tuple[str, str], str] = {
    (ANY, "open"): "{question}\n" + _THINK,
    (ANY, "binary"): "{question}\nStatement: the answer is {claim}.\n" + _YES_NO,
    (ANY, "binary_drawn"): "{question}\nStatement: the answer is what the red box on the image outlines.\n" + _YES_NO,
    (ANY, "choice"): "{question}\n{options}\n" + _LETTER,
    (ANY, "choices"): "{question}\n{options}\n"
    + f"One or more options are right. {_THINK} The final answer is the letters of all right options, separated by "
    "commas, for example: A, C",
    (ANY, "choice_own"): "{question}\n" + _LETTER,
    ("detection", "open"): "{question}\n"
    + _THINK
    + ' The final answer is one bounding box as JSON, {{"bbox_2d": [x1, y1, x2, y2]}}, with the top left and the bottom'
    " right corner {frame}.",
    (
        "detection",
        "binary",
    ): "{question}\nStatement: its bounding box is {claim}. Boxes are [x1, y1, x2, y2], {frame}.\n" + _YES_NO,
    (
        "detection",
        "choice",
    ): "{question}\nWhich of these is its bounding box? Boxes are [x1, y1, x2, y2], {frame}.\n{options}\n" + _LETTER,
    ("dense_detection", "open"): "{question}\n"
    + _THINK
    + ' The final answer is a JSON list with one bounding box for each of them, [{{"bbox_2d": [x1, y1, x2, y2]}}, ...],'
    " with the top left and the bottom right corner {frame}.",
    ("dense_detection", "binary_drawn"): "{question}\nStatement: the red boxes on the image outline all of them and "
    "nothing else.\n" + _YES_NO,
    (
        "dense_detection",
        "binary",
    ): "{question}\nStatement: {claim} are the bounding boxes of all of them and of nothing "
    "else. Boxes are [x1, y1, x2, y2], {frame}.\n" + _YES_NO,
    ("dense_detection", "choice"): "{question}\nWhich list has the bounding boxes of all of them and of nothing else? "
    "Boxes are [x1, y1, x2, y2], {frame}.\n{options}\n" + _LETTER,
    ("classification", "open"): "{question}\n"
    + _THINK
    + " The final answer is the list of all category names, separated by commas.",
    ("classification", "binary"): "{question}\nStatement: there is at least one {claim} in the image.\n" + _YES_NO,
    ("math", "open"): "{question}\n"
    + _THINK
    + " The final answer is only the number, the expression or the letter of the option.",
    ("math", "binary"): "{question}\nStatement: the answer to this question is {claim}.\n" + _YES_NO,
    # The example of the form has other numbers and another target than any hand of four.
    ("points", "open"): "{question}\n" + _THINK + " The final answer is the equation alone, like 2 * (3 + 4) - 5 = 9.",
    (
        "points",
        "binary",
    ): "{question}\nStatement: {claim} uses the number of every card exactly once, and it is true.\n" + _YES_NO,
    (
        "points",
        "choice",
    ): "{question}\nWhich of these uses the number of every card exactly once, and is true?\n{options}\n" + _LETTER,
}

STYLES: dict[str, Style] = {
    "short": Style(name="short", templates=_SHORT, option_join=" "),
    "full": Style(name="full", templates=_FULL, option_join="\n"),
}


def style_named(name: str) -> Style:
    """Raises RecipeError for a name that is not in the table."""
    if name not in STYLES:
        raise RecipeError(f"question style {name!r} is unknown; choose one of {', '.join(sorted(STYLES))}")
    return STYLES[name]
