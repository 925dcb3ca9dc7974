"""Drawn cards: the same pixels at each call, every card different from every other, colours that suits have."""

from itertools import product

import numpy as np
import pytest

from curr_reft.data.cards import COLOURS, RANKS, STYLES, SUITS, Card, draw_card, draw_cards, picture_size

DECK = [Card(rank, suit) for rank, suit in product(range(1, 14), SUITS)]


@pytest.mark.parametrize("style", STYLES)
def test_all_cards_of_a_style_can_be_told_apart(style: str) -> None:
    drawn = {draw_card(card, style).resize((100, 140)).tobytes() for card in DECK}
    assert len(drawn) == len(DECK) == 52


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("suit", SUITS)
def test_the_ink_has_the_colour_of_the_suit(style: str, suit: str) -> None:
    pixels = np.asarray(draw_card(Card(7, suit), style).convert("RGB")).astype(int)[30:-30, 20:-20]
    reddish = ((pixels[:, :, 0] > 150) & (pixels[:, :, 1] < 80)).sum()
    dark = (pixels.max(axis=2) < 60).sum()
    assert (reddish > 3000, dark > 3000) == (suit in COLOURS["red"], suit in COLOURS["black"])


def test_a_picture_is_drawn_the_same_again_in_the_size_it_announces() -> None:
    cards = [DECK[0], DECK[13], DECK[26], DECK[51]]
    for width, style in ((448, "pips"), (112, "large")):
        first = draw_cards(cards, style, width)
        draw_card.cache_clear()
        assert first.size == picture_size(width)
        assert first.mode == "RGB"
        assert first.tobytes() == draw_cards(cards, style, width).tobytes()


def test_pips_are_as_many_as_the_rank_says() -> None:
    """Counted as patches of ink in the middle of the card, between the corners."""
    for rank in range(1, 11):
        ink = np.asarray(draw_card(Card(rank, "diamonds"), "pips").convert("RGB")).astype(int)[80:480, 108:292]
        mask = (ink[:, :, 0] > 150) & (ink[:, :, 1] < 80)
        assert _patches(mask) == rank, RANKS[rank - 1]


def _patches(mask: np.ndarray) -> int:
    """Connected patches of a mask, by flooding."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    count = 0
    while left:
        count += 1
        front = [left.pop()]
        while front:
            y, x = front.pop()
            for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if near in left:
                    left.remove(near)
                    front.append(near)
    return count


def test_a_style_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="known: pips, corners, large"):
        draw_card(DECK[0], "tarot")
