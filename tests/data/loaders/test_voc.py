"""Pascal VOC: boxes that count from 1, objects marked as difficult, and XML that is not to be trusted."""

from pathlib import Path
from typing import Any

import pytest
from published_files import items, picture, problems, raw

from curr_reft.errors import DataError

XML = """<annotation>
\t<folder>VOC2007</folder>
\t<filename>{name}.jpg</filename>
\t<source><database>The VOC2007 Database</database><image>flickr</image></source>
\t<size><width>64</width><height>48</height><depth>3</depth></size>
\t<segmented>0</segmented>
{objects}</annotation>
"""
OBJECT = """\t<object>
\t\t<name>{name}</name>
\t\t<pose>Left</pose>
\t\t<truncated>1</truncated>
\t\t<difficult>{difficult}</difficult>
\t\t<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox>
{parts}\t</object>
"""
HEAD = "\t\t<part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part>\n"


def thing(name: str, *box: float, difficult: int = 0, parts: str = "") -> str:
    return OBJECT.format(*box, name=name, difficult=difficult, parts=parts)


PICTURES = {
    "000005": thing("dog", 1, 1, 64, 48) + thing("person", 8, 12, 35.5, 40, parts=HEAD),
    "000007": thing("chair", 1, 2, 3, 4) + thing("chair", 5, 6, 9, 8) + thing("diningtable", 20, 20, 50, 40),
    "000009": thing("tvmonitor", 3, 4, 30, 40) + thing("sofa", 10, 10, 20, 20, difficult=1),
    "000012": thing("car", 1, 1, 2, 2, difficult=1),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    year = tmp_path / "VOCdevkit" / "VOC2007"
    for name, objects in PICTURES.items():
        picture(year / "JPEGImages" / f"{name}.jpg")
        write(year / "Annotations" / f"{name}.xml", XML.format(name=name, objects=objects))
    write(year / "ImageSets" / "Main" / "test.txt", "".join(f"{name}\n" for name in PICTURES))
    write(year / "ImageSets" / "Main" / "dog_test.txt", "000005  1\n000007 -1\n")
    return year


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def entry(**more: Any) -> dict[str, Any]:
    return {"path": "VOCdevkit/VOC2007", "format": "voc", "task": "classification", "options": {"split": "test"}} | more


def test_classification(folder: Path) -> None:
    dog, table = items(folder.parents[1], entry())
    assert dog.truth == ("dog", "person")
    assert dog.question.startswith("Which of these categories are in the image: person, bird, cat, cow, dog,")
    assert "dining table" in dog.question
    assert ("cat",) in dog.distractors
    assert ("car",) not in dog.distractors
    assert (table.truth, table.source) == (("chair", "dining table"), "VOC2007/Annotations/000007.xml")
    kept = items(folder.parents[1], entry(options={"split": "test", "difficult": "keep"}))
    assert [item.truth for item in kept[2:]] == [("tv monitor", "sofa"), ("car",)]


def test_boxes_are_half_open_from_zero(folder: Path) -> None:
    found = {item.question: item for item in items(folder.parents[1], entry(task="detection"))}
    dog = found["Where is the dog in the image?"]
    assert dog.truth == (0.0, 0.0, 64.0, 48.0)  # from the first pixel to the last
    assert dog.distractors == ((7.0, 11.0, 35.5, 40.0),)  # the person's own box, not the one of the head
    assert list(found) == [
        f"Where is the {name} in the image?" for name in ("dog", "person", "dining table", "tv monitor")
    ]
    assert dog.source == "VOC2007/Annotations/000005.xml:dog"


def test_dense_detection(folder: Path) -> None:
    found = {item.question: item.truth for item in items(folder.parents[1], entry(task="dense_detection"))}
    assert found["Where are all objects of the category chair in the image?"] == ((0, 1, 3, 4), (4, 5, 9, 8))
    tasks = ("classification", "detection", "dense_detection")
    again = [item.id for task in tasks for item in items(folder.parents[1], entry(task=task))]
    assert len(set(again)) == len(again)


BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;&x;">]><annotation>&y;</annotation>'
SECRET = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>'
BROKEN = [
    (BOMB, "declares a document type or entities"),
    (SECRET, "declares a document type or entities"),
    (BOMB.encode("utf-16").decode("latin-1"), "not"),
    ("<annotation>" + " " * 1_000_001 + "</annotation>", "has 1000026 bytes"),
    ("<annotation><size>", "not XML"),
    (XML.format(name="000005", objects=thing("unicorn", 1, 1, 2, 2)), "'unicorn' is no class of VOC"),
    (XML.format(name="000005", objects=thing("dog", 9, 1, 2, 2)), "is inverted"),
    (XML.format(name="000005", objects=thing("dog", "x", 1, 2, 2)), "bndbox/xmin must be a number, not 'x'"),
    (XML.format(name="000005", objects=thing("", 1, 1, 2, 2)), "an object has no name"),
    (XML.format(name="000005", objects=thing("dog", 1, 1, 2, 2)).replace("48", "nan"), "must be finite"),
]


@pytest.mark.parametrize(("content", "reason"), BROKEN, ids=range(len(BROKEN)))
def test_a_bad_annotation_is_named_and_the_others_are_read(folder: Path, content: str, reason: str) -> None:
    write(folder / "Annotations" / "000005.xml", content)
    found = raw("voc", folder, "classification", split="test")
    assert [source for source, _ in problems(found)] == ["VOC2007/Annotations/000005.xml"]
    assert reason in problems(found)[0][1]
    assert len(found) == 2


def test_a_missing_annotation_is_named(folder: Path) -> None:
    (folder / "Annotations" / "000005.xml").unlink()
    assert problems(raw("voc", folder, "classification", split="test")) == [
        ("VOC2007/Annotations/000005.xml", "cannot be read: No such file or directory")
    ]


def test_own_classes(folder: Path) -> None:
    write(folder / "Annotations" / "000005.xml", XML.format(name="000005", objects=thing("unicorn", 1, 1, 2, 2)))
    write(folder / "ImageSets" / "Main" / "own.txt", "000005")
    options = {"split": "own", "classes": "unicorn, griffin"}
    (item,) = items(folder.parents[1], entry(options=options))
    assert (item.truth, item.distractors) == (("unicorn",), (("griffin",),))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"task": None}, "names no task"),
        ({"options": {}}, "needs options.split on its entry of the recipe; one of dog_test, test"),
        ({"options": {"split": "tset"}}, "did you mean test"),
        ({"options": {"split": "dog_test"}}, r"dog_test\.txt:1: '000005  1' is no name of a picture"),
        ({"path": "VOCdevkit"}, "holds no Annotations"),
    ],
)
def test_what_an_entry_asks_for_is_checked(folder: Path, more: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        items(folder.parents[1], entry(**more))
