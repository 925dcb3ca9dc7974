"""Error rates of the leak check's eye: copies it misses, different pictures it takes for one; and what it takes.

    python benchmarks/leaks.py [--scenes 3000] [--hands 400] [--copies 400] [--json FILE]
    python benchmarks/leaks.py --similar 150 300 10000 [--crops 60] [--json FILE]

Different pictures: scenes of the drawn world (84 x 84 pixels), half of them with another one made of it by changing
one thing: its colour, shape, size or place, or taking it away; and hands of four cards (448 pixels wide) in each style,
half of them another one with the rank or the suit of one card changed. Copies, re-encoded and resized: of the same
scenes and hands, and of random crops (200 pixels and more) of the image files given with --photographs.

``--similar``: processor seconds, openings and memory of the search among that many frames of one camera (320 x 216
JPEG, noise and one label that is elsewhere in each) and among crops of 2,200 x 2,200 pixels of one picture of 2,400.
"""

import argparse
import io
import json
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from curr_reft.data.cards import RANKS, STYLES, SUITS, Card, draw_cards
from curr_reft.data.copies import candidates
from curr_reft.data.fingerprint import fingerprint, same_picture
from curr_reft.data.images import FileImage, StoredImage
from curr_reft.data.item import Item
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


def room(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """A scene with soft and sharp parts, as a camera looks at."""
    coarse = rng.integers(0, 255, (height // 40, width // 40, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        x2, y2 = x + int(rng.integers(10, width // 3)), y + int(rng.integers(10, height // 3))
        pen.rectangle((x, y, x2, y2), fill=tuple(int(level) for level in rng.integers(0, 255, 3)))
    return image


def noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    levels = np.asarray(image, dtype=np.float32) + rng.normal(0, 4, (image.height, image.width, 3))
    return Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))


def write_frames(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    scene = room(320, 216, rng)
    for number in range(count):
        frame = scene.copy()
        x, y = int(rng.integers(0, 292)), int(rng.integers(0, 184))
        pen = ImageDraw.Draw(frame)
        pen.rectangle((x, y, x + 24, y + 28), fill=(245, 245, 245))
        pen.text((x + 6, y + 2), str(number % 10), fill=(10, 10, 10), font_size=22)
        noisy(frame, rng).save(folder / f"{number:06d}.jpg", quality=90)


def write_crops(folder: Path, count: int) -> None:
    rng = np.random.default_rng(1)
    picture = noisy(room(2400, 2400, rng), rng)
    for number in range(count):
        x, y = int(rng.integers(0, 200)), int(rng.integers(0, 200))
        picture.crop((x, y, x + 2200, y + 2200)).save(folder / f"{number:06d}.jpg", quality=90)


def search(folder: Path, count: int) -> dict[str, Any]:
    """What the leak check takes among the first pictures of ``folder``, a third of them in the test."""
    from curr_reft.questions.leaks import find_repeats
    from curr_reft.questions.survey import Survey

    opened: Counter[str] = Counter()
    plain = StoredImage.open

    def counting(image: StoredImage) -> Image.Image:
        opened[image.place] += 1
        return plain(image)

    names = sorted(path.name for path in folder.iterdir())[:count]
    items = [
        Item(
            id=name, task="math", question="q", truth="1", images=(FileImage(folder, name),), source=name,
            split="train" if number % 3 else "test",
        )
        for number, name in enumerate(names)
    ]  # fmt: skip
    StoredImage.open = counting  # type: ignore[method-assign]
    try:
        began = time.process_time()
        survey = Survey()
        for item in items:
            survey.add(item)
        survey.finish()
        decoded = time.process_time()
        found = find_repeats(survey, items)
        ended = time.process_time()
    finally:
        StoredImage.open = plain  # type: ignore[method-assign]
    return {
        "pictures": len(items),
        "decode_s": round(decoded - began, 1),
        "search_s": round(ended - decoded, 1),
        "openings": sum(opened.values()),
        "most_openings_of_one": max(opened.values()),
        "leaks": len(found.leaks),
        "cut_short": found.cut_short,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def measure_similar(counts: list[int], crops: int, out: Path) -> None:
    facts = []
    with tempfile.TemporaryDirectory() as place:
        for kind, write, sizes in (("frames", write_frames, counts), ("crops", write_crops, [crops])):
            folder = Path(place) / kind
            folder.mkdir()
            write(folder, max(sizes))
            for count in sizes:
                facts.append({"kind": kind, **search(folder, count)})
                print(", ".join(f"{name} {value}" for name, value in facts[-1].items()), flush=True)
    out.write_text(json.dumps(facts, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=3000)
    parser.add_argument("--hands", type=int, default=400)
    parser.add_argument("--copies", type=int, default=400)
    parser.add_argument(
        "--photographs", type=Path, nargs="*", default=[], help="image files whose crops are copied too"
    )
    parser.add_argument("--similar", type=int, nargs="*", metavar="FRAMES", help="measure what the search takes")
    parser.add_argument("--crops", type=int, default=60)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = Path(__file__).parent / "results"
    if arguments.similar:
        measure_similar(arguments.similar, arguments.crops, arguments.json or results / "leaks_similar.json")
        return
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
    (arguments.json or results / "leaks.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
