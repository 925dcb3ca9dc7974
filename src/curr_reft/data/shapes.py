"""The embedded world: drawn scenes of coloured shapes, with an in-domain and an out-of-domain split.

Every item has a scene of its own, drawn only when opened. The world is small on purpose (84 x 84 pixels, places on a
7-pixel grid, a backdrop whose light tells the place), so that a model of 1.3 million parameters learns it on a CPU.

What the shift to out-of-domain means, honestly: textured backdrops, a fourth object and "minus" occur in the embedded
model's pre-training, so they measure whether post-training keeps what it does not exercise. Only ``NOVEL_PAIRS`` are
never seen before the test.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from curr_reft.data.item import Item, Truth
from curr_reft.errors import DataError
from curr_reft.seeding import derive_seed, stream

SIDE = 84  # pixels of the square image
GRID = 7  # objects stand on multiples of this
SIZES = (14, 21, 28)  # pixels of an object's side

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 40, 40),
    "green": (30, 170, 60),
    "blue": (45, 80, 235),
    "yellow": (240, 215, 40),
    "purple": (150, 50, 190),
    "white": (250, 250, 250),
}
SHAPES = ("circle", "square", "triangle", "cross")

Pair = tuple[str, str]


def _pairs(offsets: tuple[int, ...]) -> tuple[Pair, ...]:
    return tuple((c, SHAPES[(i + o) % 4]) for i, c in enumerate(COLOURS) for o in offsets)


IN_DOMAIN_PAIRS = _pairs((0, 1))  # 12: post-training and the in-domain tests
HELD_OUT_PAIRS = _pairs((2,))  # 6: in the base's pre-training, not in post-training
NOVEL_PAIRS = _pairs((3,))  # 6: nowhere before the out-of-domain test
TEXTURES = ("stripes", "diagonals", "checks", "dots", "noise")


@dataclass(frozen=True)
class Thing:
    """One object. ``box`` is in pixels, half-open."""

    colour: str
    shape: str
    x: int
    y: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def box(self) -> tuple[int, int, int, int]:
        return (self.x, self.y, self.x + self.size, self.y + self.size)


@dataclass(frozen=True)
class Scene:
    """Objects (all of different names, not touching) on a lit backdrop. Is an ImageSource."""

    things: tuple[Thing, ...]
    texture: str | None = None  # one of TEXTURES; None: plain
    texture_seed: int = 0

    @cached_property
    def key(self) -> str:
        # Sorted: the order of things is who was asked for, not what is seen.
        things = ";".join(sorted(f"{t.name}@{t.x},{t.y},{t.size}" for t in self.things))
        return f"shapes:{things}|{self.texture}:{self.texture_seed if self.texture else 0}"

    @property
    def size(self) -> tuple[int, int]:
        return (SIDE, SIDE)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of the world's tables, so that one scene has one list."""
        order = list(COLOURS)
        things = sorted(self.things, key=lambda t: (order.index(t.colour), SHAPES.index(t.shape)))
        return tuple(t.name for t in things)

    def count(self, colour: str) -> int:
        return sum(t.colour == colour for t in self.things)

    def open(self) -> Image.Image:
        return draw(self)


@dataclass(frozen=True)
class Domain:
    """What scenes and questions a split draws from."""

    objects: tuple[int, ...]  # numbers of objects
    targets: tuple[Pair, ...]  # what is asked for in detection; at least one object is of these
    others: tuple[Pair, ...]  # what else may stand in the scene
    textured: float  # share of scenes with a texture
    operations: tuple[str, ...]


IN_DOMAIN = Domain((2, 3), IN_DOMAIN_PAIRS, IN_DOMAIN_PAIRS, 0.0, ("plus",))
OUT_OF_DOMAIN = Domain(
    (3, 4), HELD_OUT_PAIRS + NOVEL_PAIRS, IN_DOMAIN_PAIRS + HELD_OUT_PAIRS + NOVEL_PAIRS, 1.0, ("minus",)
)
PRE_TRAINING_PAIRS = IN_DOMAIN_PAIRS + HELD_OUT_PAIRS
PRE_TRAINING = Domain((1, 2, 3, 4), PRE_TRAINING_PAIRS, PRE_TRAINING_PAIRS, 0.5, ("plus", "minus"))


def draw(scene: Scene) -> Image.Image:
    """The picture: a backdrop whose red rises to the right and whose blue rises downwards, a texture, the objects."""
    ramp = np.linspace(30, 130, SIDE)
    picture = np.full((SIDE, SIDE, 3), 70.0)
    picture[:, :, 0] = ramp[None, :]
    picture[:, :, 2] = ramp[:, None]
    if scene.texture is not None:
        picture += _texture(scene.texture, scene.texture_seed)[:, :, None]
    image = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for thing in scene.things:
        _draw_thing(pen, thing)
    return image


def _texture(kind: str, seed: int) -> np.ndarray:
    """Brightness to add, (SIDE, SIDE), between -24 and 24."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    period, phase = int(rng.integers(6, 14)), int(rng.integers(0, 14))
    if kind == "stripes":
        wave = ((y + phase) // (period // 2)) % 2 if rng.random() < 0.5 else ((x + phase) // (period // 2)) % 2
    elif kind == "diagonals":
        wave = ((x + y + phase) // (period // 2)) % 2
    elif kind == "checks":
        wave = ((x + phase) // period + (y + phase) // period) % 2
    elif kind == "dots":
        wave = ((x + phase) % period - period // 2) ** 2 + ((y + phase) % period - period // 2) ** 2 < (
            period // 3
        ) ** 2
    elif kind == "noise":
        return rng.uniform(-24, 24, (SIDE, SIDE))
    else:
        raise ValueError(f"unknown texture {kind!r}; known: {', '.join(TEXTURES)}")
    return np.where(wave, 18.0, -18.0)


def _draw_thing(pen: ImageDraw.ImageDraw, thing: Thing) -> None:
    x1, y1, x2, y2 = thing.x, thing.y, thing.x + thing.size - 1, thing.y + thing.size - 1
    colour = COLOURS[thing.colour]
    if thing.shape == "circle":
        pen.ellipse((x1, y1, x2, y2), fill=colour)
    elif thing.shape == "square":
        pen.rectangle((x1, y1, x2, y2), fill=colour)
    elif thing.shape == "triangle":
        pen.polygon([((x1 + x2) / 2, y1), (x2, y2), (x1, y2)], fill=colour)
    elif thing.shape == "cross":
        third = thing.size // 3
        pen.rectangle((x1 + third, y1, x2 - third, y2), fill=colour)
        pen.rectangle((x1, y1 + third, x2, y2 - third), fill=colour)
    else:
        raise ValueError(f"unknown shape {thing.shape!r}; known: {', '.join(SHAPES)}")


def random_scene(rng: random.Random, domain: Domain) -> Scene:
    """A scene of the domain. The first thing is of ``domain.targets``; the picture does not depend on the order."""
    count = rng.choice(domain.objects)
    texture = rng.choice(TEXTURES) if rng.random() < domain.textured else None
    while True:
        pairs = [rng.choice(domain.targets)]
        pairs += rng.sample([p for p in domain.others if p != pairs[0]], count - 1)
        things: list[Thing] = []
        for colour, shape in pairs:
            placed = _place(rng, colour, shape, things)
            if placed is None:
                break
            things.append(placed)
        if len(things) == count:
            return Scene(tuple(things), texture, rng.randrange(2**31) if texture else 0)


def _place(rng: random.Random, colour: str, shape: str, others: list[Thing]) -> Thing | None:
    """A free place, or None when 20 tries found none."""
    for _ in range(20):
        size = rng.choice(SIZES)
        x, y = (GRID * rng.randint(0, (SIDE - size) // GRID) for _ in range(2))
        if all(x + size <= o.x or o.x + o.size <= x or y + size <= o.y or o.y + o.size <= y for o in others):
            return Thing(colour, shape, x, y, size)
    return None


CLASSIFICATION_QUESTION = "list the objects"


def math_question(rng: random.Random, scene: Scene, operation: str) -> tuple[str, str, tuple[int, int]]:
    """(question, answer, the two counts). The answer is drawn first, uniformly over what the scene allows."""
    colours = list(COLOURS)
    by_answer: dict[int, list[tuple[str, str]]] = {}
    for first in colours:
        for second in colours:
            if first != second:
                a, b = scene.count(first), scene.count(second)
                value = a + b if operation == "plus" else a - b
                if value >= 0:
                    by_answer.setdefault(value, []).append((first, second))
    value = rng.choice(sorted(by_answer))
    first, second = rng.choice(by_answer[value])
    return f"how many {first} {operation} how many {second}", str(value), (scene.count(first), scene.count(second))


def arithmetic_question(rng: random.Random) -> tuple[str, str]:
    """A text-only sum or difference of numbers up to 20, never below 0."""
    a, b = rng.randint(0, 20), rng.randint(0, 20)
    if rng.random() < 0.5:
        return f"what is {a} plus {b}", str(a + b)
    return f"what is {max(a, b)} minus {min(a, b)}", str(abs(a - b))


def make_item(task: str, rng: random.Random, domain: Domain, *, item_id: str, split: str) -> Item:
    """One item of a task on a new scene; ``arithmetic`` gives a text-only math item."""
    scene = None if task == "arithmetic" else random_scene(rng, domain)
    return item_of_scene(task, scene, rng, domain, item_id=item_id, split=split)


def item_of_scene(
    task: str, scene: Scene | None, rng: random.Random, domain: Domain, *, item_id: str, split: str
) -> Item:
    """A question of ``task`` about ``scene``. Detection asks for one of ``domain.targets``."""
    common: dict[str, Any] = {"id": item_id, "split": split, "source": item_id, "domain": task}
    if scene is None:
        question, answer = arithmetic_question(rng)
        return Item(task="math", question=question, truth=answer, **common)
    common["images"] = (scene,)
    if task == "detection":
        target = rng.choice([thing for thing in scene.things if (thing.colour, thing.shape) in domain.targets])
        wrong = _wrong_boxes(rng, target.box, [thing.box for thing in scene.things if thing is not target])
        x1, y1, x2, y2 = map(float, target.box)
        return Item(task=task, question=f"find the {target.name}", truth=(x1, y1, x2, y2), distractors=wrong, **common)
    if task == "classification":
        return Item(task=task, question=CLASSIFICATION_QUESTION, truth=scene.names, **common)
    if task == "math":
        question, answer, _ = math_question(rng, scene, rng.choice(domain.operations))
        return Item(task=task, question=question, truth=answer, **common)
    raise ValueError(f"the drawn world has no task {task!r}; it has detection, classification, math, arithmetic")


def _wrong_boxes(
    rng: random.Random, truth: tuple[int, ...], others: list[tuple[int, int, int, int]], count: int = 6
) -> tuple[Truth, ...]:
    """``count`` boxes for false claims: the other objects', then boxes an object could have.

    They stand on the grid like true ones: a claim off the grid would give itself away without a look at the image.
    """
    boxes = list(others)
    while len(boxes) < count:
        size = rng.choice(SIZES)
        x, y = (GRID * rng.randint(0, (SIDE - size) // GRID) for _ in range(2))
        box = (x, y, x + size, y + size)
        if _iou(box, truth) <= 0.3 and all(_iou(box, other) < 0.5 for other in boxes):
            boxes.append(box)
    return tuple((float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in boxes)


def _iou(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    width, height = (max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / (area - width * height)


DOMAINS = {
    "train": IN_DOMAIN,
    "validation": IN_DOMAIN,
    "test": IN_DOMAIN,
    "pool": IN_DOMAIN,
    "general": IN_DOMAIN,
    "ood_train": OUT_OF_DOMAIN,
    "ood_validation": OUT_OF_DOMAIN,
    "ood_test": OUT_OF_DOMAIN,
}


def shapes_items(seed: int, split: str, counts: dict[str, int]) -> list[Item]:
    """``counts[task]`` items of a split (a key of DOMAINS), equal for equal arguments.

    A scene belongs to one split by construction: ``_owner`` assigns every possible scene (and every text-only
    question) to one split by its content, and a split draws until the scene is its own. So no two splits share one.
    """
    return list(drawn_items(seed, split, counts))


def drawn_items(seed: int, split: str, counts: dict[str, int]) -> Iterator[Item]:
    """``shapes_items`` one at a time."""
    for task, count in counts.items():
        yield from _draw_items(seed, split, task, count)


def _draw_items(seed: int, split: str, task: str, count: int) -> Iterator[Item]:
    rng = stream(seed, "shapes", split, task)
    seen: set[str] = set()
    made = tries = 0
    while made < count:
        tries += 1
        if tries > 50 * count + 10_000:
            raise DataError(
                f"shapes/{split}/{task}",
                f"asked for {count} items, but only {made} different ones were found; ask for fewer",
            )
        item = make_item(task, rng, DOMAINS[split], item_id=f"shapes/{split}/{task}/{made:05d}", split=split)
        content = item.images[0].key if item.images else item.question
        if content not in seen and _owner(content) == _role(split):
            seen.add(content)
            made += 1
            yield item


def _role(split: str) -> int:
    return {"train": 0, "validation": 1, "test": 2, "general": 2, "pool": 3}[split.removeprefix("ood_")]


def _owner(content: str) -> int:
    """0 to 3: the role (train, validation, test, pool) a scene belongs to, by its content alone."""
    return derive_seed(0, "owner", content) % 4
