"""The page of questions: boxes where they are, options with the right ones marked, and nothing that acts or loads."""

import re
from dataclasses import replace
from pathlib import Path

from PIL import Image

from curr_reft.data.frame import BoxFrame, resize_rule
from curr_reft.data.images import DrawnImage, FileImage
from curr_reft.data.item import Item
from curr_reft.questions.compile import Asking, Compiler
from curr_reft.questions.gallery import Gallery

FORMS = ("binary", "choice", "open")
FRAME = BoxFrame("pixels", resize_rule(28, 3136, 50_000))


def drawn(name: str) -> DrawnImage:
    return DrawnImage(name, (300, 200), lambda: Image.new("RGB", (300, 200), "teal"))


BOX = (20.0, 30.0, 90.0, 110.0)
OTHERS = ((150.0, 30.0, 250.0, 110.0), (20.0, 120.0, 90.0, 190.0), (160.0, 120.0, 260.0, 190.0))
ITEMS = [
    Item(id="box", task="detection", question="where?", truth=BOX, images=(drawn("a"),), distractors=OTHERS),
    Item(
        id="names",
        task="classification",
        question="what?",
        truth=("dog", "traffic light"),
        images=(drawn("b"),),
        distractors=(("cat", "bus", "tree"),),
    ),
    Item(id="sum", task="math", question="<script>alert(1)</script> & 2+3?", truth="5", split="test"),
]


def page_of(items: list[Item], path: Path, per_group: int = 4) -> str:
    compiler = Compiler(items, FORMS, Asking(seed=0, frame=FRAME))
    compiler.look()
    gallery = Gallery(FRAME, per_group)
    for item, questions in compiler.ask():
        gallery.add(item, questions)
    return gallery.write(path, "Questions of <me>").read_text()


def test_one_page_without_script_or_network(tmp_path: Path) -> None:
    page = page_of(ITEMS, tmp_path / "page.html")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "Questions of &lt;me&gt;" in page
    assert not re.search(r"https?://|<img|<link|onerror=", page)
    assert "default-src 'none'" in page
    for heading in ("train · detection · binary", "train · classification · choice", "test · math · open"):
        assert heading in page


def test_boxes_are_drawn_on_the_original_picture(tmp_path: Path) -> None:
    page = page_of(ITEMS[:1], tmp_path / "page.html")
    assert page.count('class="mark truth"') == 3  # in every form
    assert page.count('class="mark claimed"') == 1
    assert page.count('class="mark option"') == 4
    assert re.findall(r'class="letter"[^>]*>([A-D])<', page) == list("ABCD")
    assert page.count('<rect class="mark truth" x="20" y="30" width="70" height="80"/>') == 3
    options = re.findall(r'class="mark option" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', page)
    for wanted in (BOX, *OTHERS):  # claims went to the model's frame, were rounded there, and came back
        assert any(
            all(abs(a - b) < 2 for a, b in zip(wanted, (x, y, x + width, y + height), strict=True))
            for x, y, width, height in (map(float, option) for option in options)
        )


def test_right_options_are_marked(tmp_path: Path) -> None:
    page = page_of(ITEMS[1:2], tmp_path / "page.html")
    listed = re.findall(r"<li( class=right)?>([^<]+)</li>", page)
    assert len(listed) == 4
    assert {text for mark, text in listed if mark} <= {"dog", "traffic light"}
    assert {text for mark, text in listed if not mark} <= {"cat", "bus", "tree"}


def test_the_first_few_of_each_are_shown_and_broken_pictures_say_why(tmp_path: Path) -> None:
    many = [replace(ITEMS[2], id=str(number), question=f"q{number}") for number in range(9)]
    page = page_of(many, tmp_path / "page.html", per_group=2)
    assert page.count("2 of 9") == 3
    Image.effect_noise((90, 90), 90).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:900])
    broken = replace(ITEMS[2], images=(FileImage(tmp_path, "cut.png"),))
    compiler = Compiler([broken], ["open"], Asking(seed=0, frame=FRAME), perceptual=False)
    compiler.look()
    gallery = Gallery(FRAME, 1)
    for item, questions in compiler.ask():
        gallery.add(item, questions)
    assert "cannot be decoded" in gallery.write(tmp_path / "broken.html", "x").read_text()
