"""What is independent among questions: those that share a picture, or are one item in two forms, are one cluster.

Two questions about one picture are hard together and easy together, so they tell less than two about two pictures
(Miller 2024, "Adding Error Bars to Evals", arXiv 2411.00640). Questions without a picture are a cluster an item.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from curr_reft.data.item import ImageSource
from curr_reft.data.marked import MarkedImage
from curr_reft.data.points import Hand
from curr_reft.questions.question import Question


def clusters_of(questions: Sequence[Question]) -> list[str]:
    """The cluster of each question, a short hash; questions that share one of several pictures are in one too.

    It does not depend on the order of the questions, so that the answers of two models name the same clusters.
    """
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while (above := leader.setdefault(name, name)) != name:
            leader[name] = leader[above]
            name = above
        return name

    named = [[f"item {question.origin}", *map(_picture, question.images)] for question in questions]
    for first, *others in named:
        for other in others:
            low, high = sorted((find(first), find(other)))
            leader[high] = low  # the smallest name stands for all
    return [hashlib.sha256(find(first).encode(errors="surrogatepass")).hexdigest()[:16] for first, *_ in named]


def cluster_of_row(row: Mapping[str, Any]) -> str:
    """The cluster of a row of a file of predictions. Rows of versions that noted none are a cluster an item: their
    pictures are not known any more."""
    found = row.get("cluster")
    return str(row["id"]).removesuffix(f"/{row.get('form')}") if found is None else str(found)


def _picture(image: ImageSource) -> str:
    """A picture with a claim drawn on it is the picture; a hand of cards is what its numbers are, in whatever suits."""
    plain = image.image if isinstance(image, MarkedImage) else image
    return f"hand {plain.numbers}" if isinstance(plain, Hand) else f"picture {plain.key}"
