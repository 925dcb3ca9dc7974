# The pictures and the table of labels that other examples read. From the repository's root:
#   python examples/draw.py
"""Draws 60 pictures and two tables of their labels: what stands here for photos of your own.

Writes into ``pictures/`` beside this file (another folder: as the argument) the pictures, ``labels.csv`` with the
columns photo, question and label (what is to be seen, separated by commas), and ``counts.csv`` with photo and count.
"""

import csv
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

PICTURES = 60
SIZE = (168, 126)  # width and height in pixels, as a camera's are: not square
COLOURS = {"red": (225, 40, 40), "green": (30, 170, 60), "blue": (45, 80, 235)}
SHAPES = ("circle", "square")


def draw(rng: random.Random) -> tuple[Image.Image, list[str]]:
    """A picture and the names of the one to three things in it, from left to right."""
    grey = rng.randrange(90, 120)
    picture = Image.new("RGB", SIZE, (grey, grey, grey))
    pen = ImageDraw.Draw(picture)
    names = rng.sample([f"{colour} {shape}" for colour in COLOURS for shape in SHAPES], rng.randint(1, 3))
    for place, name in enumerate(names):
        colour, shape = name.split()
        x, y = 4 + 56 * place + rng.randrange(8), 8 + rng.randrange(70)
        box = (x, y, x + 40, y + 40)
        if shape == "circle":
            pen.ellipse(box, fill=COLOURS[colour])
        else:
            pen.rectangle(box, fill=COLOURS[colour])
    return picture, names


def main(folder: Path) -> None:
    rng = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    labels, counts = [["photo", "question", "label"]], [["photo", "count"]]
    for number in range(PICTURES):
        picture, names = draw(rng)
        photo = f"{number:03d}.jpg"
        picture.save(folder / photo, quality=92)
        labels.append([photo, "list the objects", ", ".join(names)])
        counts.append([photo, str(len(names))])
    for name, rows in (("labels.csv", labels), ("counts.csv", counts)):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    print(f"{PICTURES} pictures, labels.csv and counts.csv in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("pictures"))
