"""Playing cards, drawn: rank, suit and three styles of face. The font is the one that comes inside Pillow.

Drawn large and shrunk, so that edges are smooth. Nothing here knows what the cards are for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

RANKS = ("A", "2", "3", "4", "5", "6", "7", "8", "9", "10", "J", "Q", "K")
SUITS = ("spades", "clubs", "hearts", "diamonds")
COLOURS = {"black": ("spades", "clubs"), "red": ("hearts", "diamonds")}
STYLES = ("pips", "corners", "large")

_INK = {"black": (20, 20, 24), "red": (200, 20, 35)}
_TABLE = (53, 101, 77)  # the green of the published environment's canvas
_PAPER, _EDGE = (252, 252, 250), (150, 150, 150)
_WIDTH, _HEIGHT = 400, 560  # of a card as it is drawn: the 5:7 of the published environment's cards
_HIGH = 0.55  # height of a picture over its width

_LEFT, _MIDDLE, _RIGHT = 0.36, 0.5, 0.64
_ROWS = {  # where the pips of a number stand: (column, row), both as shares of the card
    "two": ((_MIDDLE, 0.2), (_MIDDLE, 0.8)),
    "four": tuple((x, y) for x in (_LEFT, _RIGHT) for y in (0.2, 0.8)),
    "six": tuple((x, y) for x in (_LEFT, _RIGHT) for y in (0.2, 0.5, 0.8)),
    "eight": tuple((x, y) for x in (_LEFT, _RIGHT) for y in (0.2, 0.4, 0.6, 0.8)),
}
_CENTRE = ((_MIDDLE, 0.5),)
_PIPS = {
    "A": _CENTRE,
    "2": _ROWS["two"],
    "3": (*_ROWS["two"], *_CENTRE),
    "4": _ROWS["four"],
    "5": (*_ROWS["four"], *_CENTRE),
    "6": _ROWS["six"],
    "7": (*_ROWS["six"], (_MIDDLE, 0.35)),
    "8": (*_ROWS["six"], (_MIDDLE, 0.35), (_MIDDLE, 0.65)),
    "9": (*_ROWS["eight"], *_CENTRE),
    "10": (*_ROWS["eight"], (_MIDDLE, 0.3), (_MIDDLE, 0.7)),
}


@dataclass(frozen=True)
class Card:
    """A card of a deck."""

    rank: int  # 1 (ace) to 13 (king)
    suit: str  # of SUITS

    @property
    def name(self) -> str:
        return RANKS[self.rank - 1]

    @property
    def colour(self) -> str:
        return next(colour for colour, suits in COLOURS.items() if self.suit in suits)


def picture_size(width: int) -> tuple[int, int]:
    """Width and height of a picture of cards."""
    return width, round(width * _HIGH)


def draw_cards(cards: Sequence[Card], style: str, width: int) -> Image.Image:
    """The cards side by side on a green table; RGB, ``picture_size(width)``."""
    size = picture_size(width)
    picture = Image.new("RGB", size, _TABLE)
    step = width / len(cards)
    card_width = round(step * 0.9)
    card_height = round(card_width * _HEIGHT / _WIDTH)
    for place, card in enumerate(cards):
        face = draw_card(card, style).resize((card_width, card_height), Image.Resampling.LANCZOS)
        picture.paste(face, (round(place * step + step * 0.05), (size[1] - card_height) // 2), face)
    return picture


@lru_cache(maxsize=256)
def draw_card(card: Card, style: str) -> Image.Image:
    """One card with transparent corners, RGBA, 400 x 560."""
    face = Image.new("RGBA", (_WIDTH, _HEIGHT), (0, 0, 0, 0))
    pen = ImageDraw.Draw(face)
    pen.rounded_rectangle((2, 2, _WIDTH - 3, _HEIGHT - 3), 28, fill=_PAPER, outline=_EDGE, width=4)
    if style == "pips":
        _corners(face, card, 66, 34)
        _pips(pen, card)
    elif style == "corners":
        _corners(face, card, 110, 56)
        _suit(pen, card, _WIDTH / 2, _HEIGHT / 2, 150)
    elif style == "large":
        _text(pen, card, _WIDTH / 2, _HEIGHT * 0.4, 250)
        _suit(pen, card, _WIDTH / 2, _HEIGHT * 0.77, 110)
    else:
        raise ValueError(f"unknown style of cards {style!r}; known: {', '.join(STYLES)}")
    return face


def _corners(face: Image.Image, card: Card, height: int, suit: int) -> None:
    """Rank over suit at the top left, and the same upside down at the bottom right."""
    x = 22 + height * 0.55
    for _ in range(2):
        pen = ImageDraw.Draw(face)
        _text(pen, card, x, 24 + height * 0.5, height)
        _suit(pen, card, x, 38 + height * 0.9 + suit / 2, suit)
        face.paste(face.transpose(Image.Transpose.ROTATE_180))


def _pips(pen: ImageDraw.ImageDraw, card: Card) -> None:
    """As many suits as the rank says; a letter in a frame for jack, queen and king."""
    if card.name in _PIPS:
        for x, y in _PIPS[card.name]:
            _suit(pen, card, x * _WIDTH, y * _HEIGHT, 150 if card.name == "A" else 66)
        return
    pen.rectangle((105, 70, _WIDTH - 106, _HEIGHT - 71), outline=_INK[card.colour], width=5)
    _text(pen, card, _WIDTH / 2, _HEIGHT * 0.4, 170)
    _suit(pen, card, _WIDTH / 2, _HEIGHT * 0.7, 90)


def _text(pen: ImageDraw.ImageDraw, card: Card, x: float, y: float, height: int) -> None:
    """The name of the rank with its middle at (x, y)."""
    pen.text((x, y), card.name, fill=_INK[card.colour], font=ImageFont.load_default(height), anchor="mm")


def _suit(pen: ImageDraw.ImageDraw, card: Card, x: float, y: float, size: float) -> None:
    """The sign of the suit in a square of ``size`` around (x, y)."""
    ink = _INK[card.colour]

    def disc(dx: float, dy: float, radius: float) -> None:
        middle = (x + dx * size, y + dy * size)
        pen.ellipse((*(c - radius * size for c in middle), *(c + radius * size for c in middle)), fill=ink)

    def shape(*points: tuple[float, float]) -> None:
        pen.polygon([(x + dx * size, y + dy * size) for dx, dy in points], fill=ink)

    stem = ((-0.16, 0.5), (0.16, 0.5), (0.03, 0.05), (-0.03, 0.05))
    if card.suit == "diamonds":
        shape((0, -0.5), (0.38, 0), (0, 0.5), (-0.38, 0))
    elif card.suit == "hearts":
        shape(*_heart())
    elif card.suit == "spades":
        shape(*((dx, 0.86 * -dy - 0.06) for dx, dy in _heart()))
        shape(*stem)
    else:
        disc(0, -0.24, 0.23)
        disc(0, 0, 0.1)
        disc(-0.25, 0.1, 0.23)
        disc(0.25, 0.1, 0.23)
        shape(*stem)


@lru_cache(maxsize=1)
def _heart() -> tuple[tuple[float, float], ...]:
    """The outline of a heart in a square of side 1 around the origin, its tip down."""
    turns = [2 * math.pi * step / 96 for step in range(96)]
    return tuple(
        (
            math.sin(t) ** 3 / 2,
            (-13 * math.cos(t) + 5 * math.cos(2 * t) + 2 * math.cos(3 * t) + math.cos(4 * t) - 2.5) / 29,
        )
        for t in turns
    )
