"""GeneralPoints, drawn: four playing cards whose numbers reach a target (Chu et al. 2025, arXiv 2501.17161).

The rules are the paper's and its environment's (``general_points_oneline.py``): ranks are drawn evenly and with
replacement, an ace counts as 1, and J, Q and K all count as 10; hands without a solution are drawn again. Out of
domain, J, Q and K count as 11, 12 and 13 and every hand holds one of them (``rule``), or the suits have the other
colour (``visual``), or the target is another (``target``). Cards and pictures are our own drawing.

Splits share no hand: a hand belongs to one split by the numbers of its cards under the rule of the ten, whatever its
order, suits, style or rule. So a model that knows all equations of its training knows none of a test's.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

from PIL import Image

from curr_reft.data.arithmetic import solve, write
from curr_reft.data.cards import COLOURS, Card, draw_cards, picture_size
from curr_reft.data.config import PointsConfig
from curr_reft.data.item import Item
from curr_reft.errors import DataError
from curr_reft.seeding import derive_seed, stream

CARDS = 4
TEN = 10  # what J, Q and K count as under the rule of the ten
_FACES = {
    "ten": "J, Q and K all count as 10",
    "rank": "J counts as 11, Q as 12 and K as 13",
}
_SHARES = {"train": 6, "validation": 1, "test": 2, "pool": 1}  # of the hands, in tenths


@dataclass(frozen=True)
class Hand:
    """Cards side by side. Is an ImageSource."""

    cards: tuple[Card, ...]
    style: str  # of cards.STYLES
    width: int  # of the picture in pixels

    @cached_property
    def key(self) -> str:
        return f"points:{' '.join(f'{card.name}-{card.suit}' for card in self.cards)}|{self.style}:{self.width}"

    @property
    def numbers(self) -> str:
        """What makes the hand easy or hard, whatever it looks like; no two splits share it."""
        return _numbers_of(tuple(card.rank for card in self.cards))

    @property
    def size(self) -> tuple[int, int]:
        return picture_size(self.width)

    def open(self) -> Image.Image:
        return draw_cards(self.cards, self.style, self.width)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What the items of one kind have in common."""

    name: str  # the domain of its items
    faces: str  # key of _FACES
    colour: str  # key of cards.COLOURS
    target: int
    with_face: bool = False  # every hand holds a J, Q or K


def numbers(ranks: tuple[int, ...], faces: str) -> tuple[int, ...]:
    """What the cards of these ranks count as."""
    return tuple(min(rank, TEN) for rank in ranks) if faces == "ten" else ranks


def question(faces: str, target: int) -> str:
    """The open question; it says the rule, as the prompts of the paper do."""
    return (
        f"The picture shows four playing cards. Make {target} from the numbers of the four cards, each used exactly "
        f"once, with +, -, *, / and parentheses. An ace counts as 1; {_FACES[faces]}."
    )


def points_items(config: PointsConfig, split: str) -> Iterator[Item]:
    """The items of a split (train, validation, test, ood_test or pool), equal for equal arguments.

    Raises DataError when there are not as many different pictures as are asked for.
    """
    usual = Variant(name="points", faces=config.faces, colour=config.colour, target=config.target)
    if split != "ood_test":
        yield from _draw(config, split, usual, getattr(config, split))
        return
    other_faces, other_colour = _other(config.faces, _FACES), _other(config.colour, COLOURS)
    variants = {
        "rule": Variant(name="rule", faces=other_faces, colour=config.colour, target=config.target, with_face=True),
        "visual": Variant(name="visual", faces=config.faces, colour=other_colour, target=config.target),
        "target": Variant(name="target", faces=config.faces, colour=config.colour, target=config.other_target),
    }
    # In turns, so that the first items of the split are of every kind too.
    kinds = [_draw(config, split, variants[name], count) for name, count in config.ood_test.items()]
    for turn in zip_longest(*kinds):
        yield from (item for item in turn if item is not None)


def split_of(ranks: tuple[int, ...]) -> str:
    """The one split, out-of-domain tests counted to the test, that may show cards of these ranks."""
    place = derive_seed(0, "points owner", _numbers_of(ranks)) % sum(_SHARES.values())
    for split, share in _SHARES.items():
        if place < share:
            return split
        place -= share
    raise AssertionError(place)


def _numbers_of(ranks: tuple[int, ...]) -> str:
    return ",".join(map(str, sorted(numbers(ranks, "ten"))))


def _draw(config: PointsConfig, split: str, variant: Variant, count: int) -> Iterator[Item]:
    rng = stream(config.seed, "points", split, variant.name)
    place = f"points/{split}" if variant.name == "points" else f"points/{split}/{variant.name}"
    seen: set[str] = set()
    tries = 0
    while len(seen) < count:
        tries += 1
        if tries > 200 * count + 20_000:
            raise DataError(
                place,
                f"asked for {count} items, but only {len(seen)} different pictures of hands that reach "
                f"{variant.target} were found; ask for fewer",
            )
        ranks = tuple(rng.randint(1, 13) for _ in range(CARDS))
        if variant.with_face and max(ranks) <= TEN:
            continue
        cards = tuple(Card(rank, rng.choice(COLOURS[variant.colour])) for rank in ranks)
        hand = Hand(cards, rng.choice(config.styles), config.width)
        if hand.key in seen or split_of(ranks) != split.removeprefix("ood_"):
            continue
        solution = solve(numbers(ranks, variant.faces), variant.target)
        if solution is None:
            continue
        item_id = f"{place}/{len(seen):05d}"
        seen.add(hand.key)
        yield Item(
            id=item_id,
            task="points",
            question=question(variant.faces, variant.target),
            truth=f"{write(solution)} = {variant.target}",
            images=(hand,),
            split=split,
            source=item_id,
            domain=variant.name,
        )


def _other(name: str, known: Iterable[str]) -> str:
    """The other one of two."""
    (other,) = (each for each in known if each != name)
    return other
