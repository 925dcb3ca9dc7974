"""Which questions are independent: pictures shared directly or by way of others, items in several forms."""

from dataclasses import dataclass
from typing import Any

from curr_reft.data.config import PointsConfig
from curr_reft.data.marked import MarkedImage
from curr_reft.data.points import points_items
from curr_reft.evaluate.clusters import cluster_of_row, clusters_of
from curr_reft.questions.question import Question


@dataclass(frozen=True)
class Drawn:
    key: str
    size: tuple[int, int] = (8, 8)

    def open(self) -> Any:
        raise AssertionError("no picture is opened to know which it is")


def question(origin: str, *images: Any, form: str = "open") -> Question:
    return Question(
        id=f"{origin}/{form}", origin=origin, task="math", form=form, prompt="?", truth="5", images=tuple(images)
    )


def groups(questions: list[Question]) -> list[set[str]]:
    found: dict[str, set[str]] = {}
    for each, cluster in zip(questions, clusters_of(questions), strict=True):
        found.setdefault(cluster, set()).add(each.id)
    return list(found.values())


def test_a_picture_or_an_item_is_one() -> None:
    one, two, three = Drawn("1"), Drawn("2"), Drawn("3")
    marked: Any = MarkedImage(one, ((0.0, 0.0, 4.0, 4.0),))
    asked = [
        question("a", one),
        question("b", marked),  # the claim is drawn, the picture is the same
        question("c", two),
        question("d", two, three),
        question("e", three),  # shares nothing with c, but d does with both
        question("f"),
        question("f", form="binary"),
        question("g"),
    ]
    assert groups(asked) == [
        {"a/open", "b/open"}, {"c/open", "d/open", "e/open"}, {"f/open", "f/binary"}, {"g/open"}
    ]  # fmt: skip
    assert dict(zip(asked[::-1], clusters_of(asked[::-1]), strict=True)) == dict(
        zip(asked, clusters_of(asked), strict=True)
    )


def test_a_hand_of_cards_is_its_numbers() -> None:
    """Splits share no hand by them; a test of 300 pictures shows some 75."""
    config = PointsConfig.model_validate({"test": 300})
    items = list(points_items(config, "test"))
    asked = [question(item.id, *item.images) for item in items]
    assert len({image.key for item in items for image in item.images}) == len(items) == 300
    found = set(clusters_of(asked))
    assert len(found) == len({item.images[0].numbers for item in items})  # type: ignore[attr-defined]
    assert 50 < len(found) < 100


def test_an_item_called_like_a_picture_is_not_it() -> None:
    assert len(groups([question("a", Drawn("b")), question("b", Drawn("a"))])) == 2


def test_rows_of_earlier_versions_are_a_cluster_an_item() -> None:
    assert cluster_of_row({"id": "file:3/a/open", "cluster": "x"}) == "x"
    forms = ("open", "binary")
    assert {cluster_of_row({"id": f"file:3/a/{form}", "form": form}) for form in forms} == {"file:3/a"}
