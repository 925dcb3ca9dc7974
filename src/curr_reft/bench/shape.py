"""The shapes that are measured: prompt tokens, completion tokens, completions a prompt. Imports nothing heavy."""

from dataclasses import dataclass

from curr_reft.errors import UsageError

TEMPLATE_TOKENS = 10  # of the chat template around image and text
LEAST_WORDS = 6  # of a prompt's text
PATCH, MERGE = 14, 2  # pixels a patch side, patches a visual token's side


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One line of the table."""

    P: int  # prompt tokens, visual ones included
    C: int  # tokens of every completion
    G: int  # completions of a prompt

    @property
    def visual(self) -> int:
        """Visual tokens: the largest power of two that leaves room for the template and some text."""
        return 1 << ((self.P - TEMPLATE_TOKENS - LEAST_WORDS).bit_length() - 1)

    @property
    def words(self) -> int:
        """Tokens of the question's text."""
        return self.P - self.visual - TEMPLATE_TOKENS

    @property
    def patches(self) -> int:
        """Patches of the image, the tokens of the vision tower."""
        return self.visual * MERGE**2

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height in pixels of the image that becomes ``visual`` tokens; no resizing happens."""
        short = 1 << ((self.visual.bit_length() - 1) // 2)
        return self.visual // short * MERGE * PATCH, short * MERGE * PATCH

    def __str__(self) -> str:
        return f"{self.P},{self.C},{self.G}"


DEFAULT_SHAPES = (
    Shape(P=309, C=32, G=4),
    Shape(P=309, C=32, G=8),
    Shape(P=309, C=32, G=16),
    Shape(P=565, C=32, G=8),
    Shape(P=309, C=128, G=8),
    Shape(P=97, C=64, G=8),
)


def parse_shape(text: str) -> Shape:
    """``309,32,8`` (P, C, G). Raises UsageError."""
    rule = "must be P,C,G: prompt tokens (at least 20), completion tokens (at least 2), completions a prompt"
    try:
        P, C, G = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--shape {text!r}: {rule}, for example 309,32,8") from None
    if P < TEMPLATE_TOKENS + LEAST_WORDS + 4 or C < 2 or G < 2:
        raise UsageError(f"--shape {text!r}: {rule} (at least 2), for example 309,32,8")
    return Shape(P=P, C=C, G=G)
