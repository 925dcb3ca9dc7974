"""What the embedded model is shown: answers to questions about scenes, careful, careless or without tags.

Careful: the think block lists the evidence, the answer follows from it. Careless: the think block says that it
guesses, the answer is random. Bare: the right answer without tags, which the format rule does not accept.
"""

import random
from dataclasses import dataclass

from curr_reft.data.item import Item
from curr_reft.data.shapes import COLOURS, GRID, SHAPES, SIDE, SIZES, Scene
from curr_reft.questions.forms import FORMS
from curr_reft.questions.question import Question
from curr_reft.tasks import TASKS


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One question and the answer to learn."""

    prompt: str
    completion: str
    decides: str  # the answer's own text, as it stands in the answer block
    form: str


@dataclass(frozen=True, kw_only=True)
class Manners:
    """Shares of the ways to answer. What is left over is careful."""

    careless: float = 0.0
    bare: float = 0.0


def lesson(question: Question, item: Item, manners: Manners, rng: random.Random) -> Lesson:
    """The question with an answer in a manner drawn by ``rng``."""
    draw = rng.random()
    right = FORMS[question.form].write(question)
    if draw < manners.careless:
        answer = random_answer(question, rng)
        completion = f"<think> i guess </think> <answer> {answer} </answer>"
    elif draw < manners.careless + manners.bare:
        answer, completion = right, right
    else:
        answer, completion = right, f"<think> {evidence(item)} </think> <answer> {right} </answer>"
    return Lesson(prompt=question.prompt, completion=completion, decides=answer, form=question.form)


def description(scene: Scene) -> Lesson:
    """Every object with its box: the densest thing a scene can teach about seeing. Only pre-training asks for it."""
    by_name = {thing.name: thing.box for thing in scene.things}
    seen = ", ".join(f"{name} at {TASKS['detection'].claim(by_name[name])}" for name in scene.names)
    return Lesson(prompt="list the box.", completion=f"<think> i see {seen} </think>", decides="", form="open")


def evidence(item: Item) -> str:
    """What a careful answer says before it answers; the same in every form."""
    words = item.question.split()
    if not item.images:  # what is 7 plus 5
        return f"{' '.join(words[2:])} is {item.truth}"
    scene = item.images[0]
    assert isinstance(scene, Scene)
    if item.task == "detection":  # find the red circle
        return f"{' '.join(words[2:])} at {TASKS['detection'].claim(item.truth)}"
    seen = "i see " + ", ".join(scene.names)
    if item.task == "classification":
        return seen
    first, operation, second = words[2], words[3], words[6]  # how many red plus how many blue
    return f"{seen} so {scene.count(first)} {operation} {scene.count(second)} is {item.truth}"


def random_answer(question: Question, rng: random.Random) -> str:
    """An answer that looks at nothing."""
    if question.form == "binary":
        return rng.choice(("yes", "no"))
    if question.form == "choice":
        letters = "ABCDEFGH"[: len(question.options)]
        count = rng.randint(1, len(letters)) if question.task == "classification" else 1
        return ", ".join(sorted(rng.sample(letters, count)))
    if question.task == "detection":
        size = rng.choice(SIZES)
        x, y = (GRID * rng.randint(0, (SIDE - size) // GRID) for _ in range(2))
        return TASKS["detection"].write((x, y, x + size, y + size))
    if question.task == "classification":
        names = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
        picked = set(rng.sample(names, rng.randint(1, 4)))
        return ", ".join(name for name in names if name in picked)
    return str(rng.randint(0, 4 if question.images else 20))
