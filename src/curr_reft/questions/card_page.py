"""The data card as a page of Markdown, from its JSON alone."""

from collections.abc import Iterable, Mapping
from typing import Any

from curr_reft.escaping import markdown
from curr_reft.questions.card import QUANTILES

FRAMES = {
    "pixels": "pixels of the image as the model sees it",
    "thousand": "0 to 1000 across the image",
    "unit": "0 to 1 across the image",
}


def card_page(card: Mapping[str, Any]) -> str:
    """Markdown tables of what ``question_sets.py`` writes as card.json."""
    asked = card["questions"]
    total = asked["total"]
    sections = [
        f"# Data card of {markdown(card['recipe'])}",
        _facts(card),
        "## Questions by split, task and form",
        _questions(asked),
        "## Balance",
        "Off: how far the share of yes is from one half, and the share of a letter among all right ones from an equal "
        "share.",
        _balance(asked["splits"]),
        "## Right letters of a choice",
        _right_letters(asked["splits"]),
        "## Where false claims come from",
        _table(("task", "form", "kind", "claims"), _leaves(total["claims"])),
        "## Pictures",
        _pictures(asked["pictures"]),
        "## Tokens per prompt",
        _tokens(card["tokens"]),
        "## What is left out, and why",
        _left_out(card, total),
        "## What repeats",
        _repeats(asked, total),
        "## Files",
        _table(
            ("file", "rows", "sha256"),
            ((name, file["rows"], file["sha256"][:16]) for name, file in card["files"].items()),
        ),
    ]
    return "\n\n".join(sections) + "\n"


def _facts(card: Mapping[str, Any]) -> str:
    asked = card["questions"]
    frame = FRAMES[asked["frame"]]
    model = card["model"]
    if model is None:
        frame = frame.replace("image as the model sees it", "original image") + " (by --frame, no model was loaded)"
    else:
        frame += f" (of the model {model})"
    facts = {
        "seed": asked["seed"],
        "wording": asked["style"],
        "boxes are in": frame,
        "pictures are relative to": card["image_root"] + (" (this folder)" if card["image_root"] == "." else ""),
        "leaks between splits": asked["leaks"],
        "left out because they leaked": ", ".join(f"{count} of {split}" for split, count in asked["left_out"].items())
        or "none",
        "sha256 of all files": card["sha256"],
    }
    return _table(("", ""), facts.items())


def _questions(asked: Mapping[str, Any]) -> str:
    forms = list(dict.fromkeys(form for task in asked["total"]["questions"].values() for form in task))
    rows = [
        (split, task, count, *(own["questions"].get(task, {}).get(form, 0) for form in forms))
        for split, own in asked["splits"].items()
        for task, count in own["items"].items()
    ]
    sums = [sum(column) for column in list(zip(*rows, strict=True))[2:]]
    return _table(("split", "task", "items", *forms), [*rows, ("all", "", *sums)])


def _balance(splits: Mapping[str, Any]) -> str:
    letters = sorted({letter for own in splits.values() for task in own["letters"].values() for letter in task})
    rows = []
    for split, own in splits.items():
        for task, decided in own["decisions"].items():
            right = own["letters"].get(task, {})
            rows.append(
                (
                    split,
                    task,
                    decided.get("yes", 0),
                    decided.get("no", 0),
                    _percent(own["balance"]["yes_off"][task]),
                    *(right.get(letter, 0) for letter in letters),
                    _percent(own["balance"]["letters_off"].get(task, 0.0)),
                )
            )
    return _table(("split", "task", "yes", "no", "off", *letters, "off"), rows)


def _right_letters(splits: Mapping[str, Any]) -> str:
    numbers = sorted({number for own in splits.values() for task in own["right_letters"].values() for number in task})
    rows = [
        (split, task, *(counts.get(number, 0) for number in numbers), sum(own["own_letters"].get(task, {}).values()))
        for split, own in splits.items()
        for task, counts in own["right_letters"].items()
    ]
    heads = (f"{number} right" for number in numbers)
    return _table(("split", "task", *heads, "options of the row itself"), rows)


def _pictures(pictures: Mapping[str, Any]) -> str:
    if not pictures:
        return "No item has a picture."
    shown = ", ".join(QUANTILES)
    rows = [
        (
            split,
            own["shown"],
            own["different"],
            *(", ".join(_cell(own[name][label]) for label in QUANTILES) for name in ("width", "height", "aspect")),
        )
        for split, own in pictures.items()
    ]
    return f"Width and height in pixels; aspect is width over height. Each as {shown}.\n\n" + _table(
        ("split", "shown", "different", "width", "height", "aspect"), rows
    )


def _tokens(tokens: Mapping[str, Any]) -> str:
    if "not_counted" in tokens:
        return f"Not counted: {markdown(tokens['not_counted'])}."
    rows = [
        (form, task, own["prompts"], *(own[label] for label in QUANTILES))
        for form, tasks in tokens["prompts"].items()
        for task, own in tasks.items()
    ]
    lines = [_table(("form", "task", "prompts", *QUANTILES), rows), ""]
    lines.append(f"Images included; of a sample. The model takes at most {tokens['most_the_model_takes']:,}.")
    if tokens["refused"]:
        lines += ["", f"{tokens['refused']} prompts of the sample cannot be asked:", ""]
        lines += [f"- {markdown(problem)}" for problem in tokens["refused_first"]]
    return "\n".join(lines)


def _left_out(card: Mapping[str, Any], total: Mapping[str, Any]) -> str:
    lines = [
        f"- {count} items of {markdown(task)} have no {markdown(form)} question: {markdown(reason)}"
        for task, form, reason, count in _leaves(total["skipped"])
    ]
    late = f" (of {card['unverified_rows']} the truth could not be verified in time)" if card["unverified_rows"] else ""
    lines += [
        f"- {card['skipped_rows']} bad rows{late} and {card['repeated_rows']} rows listed twice; "
        f"{card['repaired_rows']} rows were repaired"
    ]
    lines += [f"    - {markdown(row)}" for row in card["skipped_first"]]
    return "\n".join(lines)


def _repeats(asked: Mapping[str, Any], total: Mapping[str, Any]) -> str:
    lines = [
        f"- {total['duplicates']} items repeat the task, pictures and question of an earlier one of their split",
        *(f"    - {markdown(pair['second'])} repeats {markdown(pair['first'])}" for pair in asked["duplicates_first"]),
        f"- {asked['same_question_and_truth']} items outside of train ask what an item learned from asks too, with the "
        "same truth, about another picture; that is no leak",
    ]
    return "\n".join(lines)


def _leaves(tree: Mapping[str, Any], *path: str) -> Iterable[tuple[Any, ...]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, *path, key)
        else:
            yield (*path, key, value)


def _table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    heads = [markdown(head) for head in heads]
    lines = [heads, ["---"] * len(heads), *([_cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) else markdown(str(value))


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
