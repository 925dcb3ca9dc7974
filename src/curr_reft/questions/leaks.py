"""No picture and no question stands in two splits. (The reference code trains on its own math test file.)"""

from collections.abc import Sequence

from curr_reft.data.item import Item
from curr_reft.errors import DataError

SHOWN = 5  # offenders named in the message; all are in the error's ``problems``


def find_leaks(train: Sequence[Item], test: Sequence[Item]) -> list[tuple[str, str]]:
    """(source of the test item, reason) for every test item that shares its id, an image, or (text only) its question
    with a training item."""
    ids = {item.id: item for item in train}
    images = {image.key: item for item in train for image in item.images}
    texts = {_text_key(item): item for item in train if not item.images}
    leaks = []
    for item in test:
        shared = next((images[image.key] for image in item.images if image.key in images), None)
        if item.id in ids:
            leaks.append((_source(item), f"the id {item.id!r} is also {_named(ids[item.id])}"))
        elif shared is not None:
            what = "image and question are" if _text_key(shared) == _text_key(item) else "image is"
            leaks.append((_source(item), f"its {what} also in {_named(shared)}"))
        elif not item.images and _text_key(item) in texts:
            leaks.append((_source(item), f"its question is also in {_named(texts[_text_key(item)])}"))
    return leaks


def check_leaks(train_items: Sequence[Item], test_items: Sequence[Item]) -> None:
    """Raises DataError naming every item of ``test_items`` that leaks into ``train_items``."""
    leaks = find_leaks(train_items, test_items)
    if not leaks:
        return
    listed = "; ".join(f"{source}: {reason}" for source, reason in leaks[:SHOWN])
    more = f"; and {len(leaks) - SHOWN} more" if len(leaks) > SHOWN else ""
    raise DataError(
        leaks[0][0],
        f"{len(leaks)} item(s) leak between splits, which would make every test result worthless: {listed}{more}. "
        "Remove them from one of the splits",
        tuple(leaks),
    )


def check_splits(items: Sequence[Item]) -> None:
    """Checks training items against all others, and validation items (they choose checkpoints) and pool items (their
    answers are learned) against the tests."""
    by_split: dict[str, list[Item]] = {}
    for item in items:
        by_split.setdefault(item.split, []).append(item)
    seen: list[Item] = []
    for split in ("train", "validation", "pool"):
        seen += by_split.pop(split, [])
        check_leaks(seen, [item for rest in by_split.values() for item in rest])


def count_duplicates(items: Sequence[Item]) -> int:
    """How many items repeat the task, images and question of an earlier one."""
    keys = {(item.task, tuple(image.key for image in item.images), _text_key(item)) for item in items}
    return len(items) - len(keys)


def _text_key(item: Item) -> str:
    return " ".join(item.question.casefold().split())


def _source(item: Item) -> str:
    return item.source or item.id


def _named(item: Item) -> str:
    return f"{_source(item)} (split {item.split})"
