"""Error rates of the leak check's eye: copies it misses, different pictures it takes for one.

    python benchmarks/leaks.py [--scenes 3000] [--hands 400] [--copies 400] [--json FILE]

Different pictures: scenes of the drawn world (84 x 84 pixels), half of them with another one made of it by changing
one thing: its colour, shape, size or place, or taking it away; and hands of four cards (448 pixels wide) in each style,
half of them another one with the rank or the suit of one card changed. Copies, re-encoded and resized: of the same
scenes and hands, and of random crops (200 pixels and more) of the image files given with --photographs.
"""

import argparse
import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from curr_reft.data.cards import RANKS, STYLES, SUITS, Card, draw_cards
from curr_reft.data.fingerprint import candidates, fingerprint, same_picture
from curr_reft.data.shapes import COLOURS, DOMAINS, SHAPES, SIDE, SIZES, Scene, random_scene


def coded(image: Image.Image, kind: str, scale: float = 1.0, quality: int = 75) -> Image.Image:
    """The image written and read again."""
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    file = io.BytesIO()
    (image if scale == 1 else image.resize(size)).save(file, kind, **({} if kind == "PNG" else {"quality": quality}))
    return Image.open(file).convert("RGB")


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG, quality 95": lambda image: coded(image, "JPEG", quality=95),
    "JPEG, quality 75": lambda image: coded(image, "JPEG"),
    "JPEG, quality 50": lambda image: coded(image, "JPEG", quality=50),
    "WebP, quality 80": lambda image: coded(image, "WEBP", quality=80),
    "256 colours": lambda image: image.quantize(256).convert("RGB"),
    "twice the size": lambda image: coded(image, "PNG", 2),
    "twice the size, JPEG": lambda image: coded(image, "JPEG", 2),
    "0.8 of the size": lambda image: coded(image, "PNG", 0.8),
    "0.75 of the size, JPEG quality 90": lambda image: coded(image, "JPEG", 0.75, 90),
    "half the size": lambda image: coded(image, "PNG", 0.5),
    "half the size, JPEG": lambda image: coded(image, "JPEG", 0.5),
}


def edited(scene: Scene, rng: random.Random) -> Scene:
    """The scene with one thing changed."""
    things = list(scene.things)
    place = rng.randrange(len(things))
    thing = things[place]
    moved = thing.x + 7 if thing.x + thing.size + 7 <= SIDE else thing.x - 7
    fits = [size for size in SIZES if size != thing.size and max(thing.x, thing.y) + size <= SIDE]
    changes = [
        {"colour": rng.choice([colour for colour in COLOURS if colour != thing.colour])},
        {"shape": rng.choice([shape for shape in SHAPES if shape != thing.shape])},
        {"x": moved},
        {"size": rng.choice(fits) if fits else thing.size - 7},
        None,
    ]
    change = rng.choice(changes)
    things[place : place + 1] = [] if change is None else [replace(thing, **change)]
    return replace(scene, things=tuple(things))


def scenes(count: int, rng: random.Random) -> Iterator[Scene]:
    for number in range(count):
        scene = random_scene(rng, DOMAINS["train" if number % 2 else "ood_test"])
        yield scene
        if number % 2 == number % 4:  # of both worlds
            yield edited(scene, rng)


def hands(count: int, rng: random.Random) -> set[tuple[Card, ...]]:
    drawn = set()
    for _ in range(count // 2):
        hand = [Card(rng.randint(1, len(RANKS)), rng.choice(SUITS)) for _ in range(4)]
        drawn.add(tuple(hand))
        place = rng.randrange(4)
        card = hand[place]
        changes = [
            replace(card, rank=card.rank % len(RANKS) + 1),
            replace(card, suit=SUITS[SUITS.index(card.suit) - 1]),
        ]
        hand[place] = rng.choice(changes)
        drawn.add(tuple(hand))
    return drawn


def taken_for_one(images: list[Image.Image]) -> tuple[int, int]:
    """(pairs looked at, pairs that are taken for one picture) of different images."""
    close = candidates([fingerprint(image) for image in images])
    return len(close), sum(same_picture(images[first], images[second]) for first, second in close)


def crop(path: Path, rng: random.Random) -> Image.Image:
    image = Image.open(path).convert("RGB")
    width, height = (rng.randint(min(200, side), side) for side in image.size)
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


def found(image: Image.Image, copy: Image.Image) -> bool:
    close = candidates([fingerprint(image), fingerprint(copy)])
    return bool(close) and same_picture(image, copy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=3000)
    parser.add_argument("--hands", type=int, default=400)
    parser.add_argument("--copies", type=int, default=400)
    parser.add_argument(
        "--photographs", type=Path, nargs="*", default=[], help="image files whose crops are copied too"
    )
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "leaks.json")
    arguments = parser.parse_args()
    rng = random.Random(0)
    different = list({scene.key: scene for scene in scenes(arguments.scenes, rng)}.values())
    images = [scene.open() for scene in different]
    drawn = {"scenes": images}
    for style in STYLES:
        drawn[f"hands, {style}"] = [
            draw_cards(hand, style, 448) for hand in sorted(hands(arguments.hands, rng), key=str)
        ]
    facts: dict[str, Any] = {"different": {}, "copies": {}}
    for name, each in drawn.items():
        looked_at, wrong = taken_for_one(each)
        print(
            f"{name}: {len(each):,} different pictures, {looked_at:,} pairs looked at, {wrong} taken for one",
            flush=True,
        )
        facts["different"][name] = {"pictures": len(each), "looked_at": looked_at, "taken_for_one": wrong}
    sources = {"drawn, 84 x 84": rng.sample(images, arguments.copies)}
    few = arguments.copies // len(STYLES)
    sources["hands, 448 x 246"] = [image for style in STYLES for image in rng.sample(drawn[f"hands, {style}"], few)]
    if arguments.photographs:
        sources["crops of photographs"] = [crop(path, rng) for path in arguments.photographs for _ in range(100)]
    print("| copy | " + " | ".join(f"found of {len(each)}: {name}" for name, each in sources.items()) + " |")
    print("|---" * (1 + len(sources)) + "|")
    for name, copy in COPIES.items():
        hits = {source: sum(found(image, copy(image)) for image in each) for source, each in sources.items()}
        facts["copies"][name] = hits
        print(f"| {name} | " + " | ".join(map(str, hits.values())) + " |")
    arguments.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
