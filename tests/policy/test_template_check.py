"""Chat templates of folders from elsewhere: tried under limits before a run uses them (S11)."""

import shutil
import time
from importlib import resources
from pathlib import Path

import pytest

from curr_reft.errors import DataError, UsageError
from curr_reft.policy import template_check
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.load import load_chat_processor
from curr_reft.policy.template_check import check_template

SOUND = "{% for c in messages[0].content %}{{ 'IMAGE' if c.type == 'image' else c.text }}{% endfor %}"
MISBEHAVING = {
    "raises": ("{{ raise_exception('no images here') }}", "fails: TemplateError: no images here"),
    "is no template": ("{% for x in", "fails: TemplateSyntaxError"),
    "divides by zero": ("{{ 1 // 0 }}", "fails: ZeroDivisionError"),
    "is refused by the sandbox": ("{{ ''.__class__.__mro__ }}", "fails: SecurityError"),
    "asks for 30 GB": ("{{ ('a' * 30000000000) | length }}", "asks for more than 1024 MiB of memory"),
    "grows without end": (
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "asks for more than 1024 MiB of memory",
    ),
    "writes megabytes": ("{{ 'a' * 2000000 }}", "writes 2,000,000 characters"),
}


def folder_with(template: str, folder: Path) -> Path:
    shutil.copytree(str(resources.files("curr_reft") / "embedded" / "model"), folder)
    (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.mark.parametrize("name", MISBEHAVING)
def test_a_template_that_misbehaves_is_refused_with_the_folder(name: str, tmp_path: Path) -> None:
    template, expected = MISBEHAVING[name]
    folder = folder_with(template, tmp_path / "model")
    with pytest.raises(UsageError) as refused:
        load_chat_processor(ModelConfig(path=str(folder)))
    assert str(refused.value).startswith(f"model.path: the chat template of {folder} ")
    assert expected in str(refused.value)


def test_a_template_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_check, "CPU_SECONDS", 1)
    endless = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3
    with pytest.raises(UsageError, match="does not end within 1 s"):
        load_chat_processor(ModelConfig(path=str(folder_with(endless, tmp_path / "model"))))


def test_a_process_that_waits_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_check, "WALL_SECONDS", 0.2)
    with pytest.raises(UsageError, match="does not end"):
        check_template(lambda: str(time.sleep(600)), "folder")


def test_the_limits_stay_in_the_forked_process() -> None:
    changed: list[int] = []

    def render() -> str:
        changed.append(1)
        return "a chat"

    check_template(render, "folder")
    assert not changed


def test_a_sound_template_loads_and_one_that_fails_on_a_question_names_it(tmp_path: Path) -> None:
    picky = "{% if 'forbidden' in messages[0].content[-1].text %}{{ raise_exception('that word') }}{% endif %}" + SOUND
    processor = load_chat_processor(ModelConfig(path=str(folder_with(picky, tmp_path / "model"))))
    with pytest.raises(DataError, match=r"rows\.jsonl:3: the model's chat template fails .*TemplateError: that word"):
        processor.prompt_text("forbidden", (), "rows.jsonl:3")
