"""Replies of judges: thoughts, drafts, fences, broken and ambiguous objects. Only a clear verdict is a number."""

import json
import re
from typing import Any

import pytest
from judge_server import GOOD

from curr_reft.improve.records import CRITERIA
from curr_reft.improve.reply import LONGEST, UnusableReplyError, read_reply

DRAFT = {**GOOD, "comment": "a draft", "accuracy": 99, "total": 99}
G, D = json.dumps(GOOD), json.dumps(DRAFT)


def with_total(total: float, **scores: float) -> str:
    return json.dumps({**GOOD, **scores, "total": total})


# Thoughts

THOUGHTS = {
    "think": f"<think>{D}</think>{G}",
    "thinking": f"<thinking>\n{D}\n</thinking>\n{G}",
    "reasoning": f"<reasoning>{D}</reasoning>{G}",
    "capitals and spaces": f"< THINK >{D}< / Think >{G}",
    "an attribute": f'<thinking effort="3">{D}</thinking>{G}',
    "a name space": f"<seed:think>{D}</seed:think>{G}",
    "kimi": f"◁think▷{D}◁/think▷{G}",
    "mistral": f"[THINK]{D}[/THINK]{G}",
    "command a": f"<|START_THINKING|>{D}<|END_THINKING|>{G}",
    "gpt-oss": f"<|channel|>analysis<|message|>{D}<|end|><|start|>assistant<|channel|>final<|message|>{G}<|return|>",
    "gpt-oss, constrained": f"<|channel|>analysis<|message|>{D}<|end|><|channel|>final <|constrain|>json<|message|>{G}",
    "gpt-oss, two analyses": (
        f"<|channel|>analysis<|message|>{D}<|end|><|channel|>commentary<|message|>{D}<|end|><|channel|>final<|message|>{G}"
    ),
    "gpt-oss without its tokens": f"analysisLet me see. {D}assistantfinal{G}",
    "opened by the chat template": f"the answer is right: {D}\n</think>\n\n{G}",
    "nested": f"<think>a<think>{D}</think>{D}</think>{G}",
    "two": f"<think>{D}</think>so<think>{D}</think>{G}",
    "other words for the two ends": f"<think>{D}</reasoning>{G}",
    "longer than a reply may be": f"<think>{'so ' * LONGEST}{D}</think>{G}",
    "a draft before the end of a thought": f"{D}</think>{G}",
    "talk of tags in backticks": f"<think>it has no `</think>` and a `<think>`: {D}</think>{G}",
    "talk of tags in a draft's string": f"<think>{json.dumps({**DRAFT, 'comment': 'no </think>'})}</think>{G}",
    "in a fence": f"<think>{D}</think>\n```json\n{G}\n```",
    "fenced draft": f"<think>\n```json\n{D}\n```\n</think>\n{G}",
    "in an answer block": f"<think>{D}</think><answer>{G}</answer>",
    "braces that are no JSON": rf"<think>the set {{1, 2}} and \frac{{1}}{{2}} {D} </think>{G}",
    "a draft that breaks off": f'<think>{{"comment": "so</think>{G}',
}


@pytest.mark.parametrize("text", THOUGHTS.values(), ids=list(THOUGHTS))
def test_a_draft_in_a_thought_is_not_the_verdict(text: str) -> None:
    found = read_reply(text)
    assert (found.total, found.criteria["accuracy"], found.comment) == (91.5, 90.0, "fine")


@pytest.mark.parametrize(
    "text",
    [
        f"<think>{D}",
        f"<thinking>it is right. {D} So I give",
        f"◁think▷{D}",
        f"[THINK]{D}",
        f"<think>a</think><think>{D}",
        f"<think>a<think>b</think>{D}",
        f"<|channel|>analysis<|message|>{D}<|end|>",
        f"<|channel|>analysis<|message|>{D}<|end|><|start|>assistant<|channel|>commentary<|message|>{D}",
        f"analysisWe have {D}",
        f"{G}<think>or rather",
    ],
)
def test_a_thought_that_never_ends_is_no_verdict(text: str) -> None:
    with pytest.raises(UnusableReplyError, match="unfinished thought"):
        read_reply(text)


@pytest.mark.parametrize(
    "text", [f"<think>{D}</think>", f"{D}</think>  \n", f"<|channel|>analysis{D}<|channel|>final<|message|>"]
)
def test_a_thought_alone_is_an_empty_reply(text: str) -> None:
    with pytest.raises(UnusableReplyError, match="empty reply"):
        read_reply(text)


@pytest.mark.parametrize("comment", ["no <think> block", "</think> is missing", "◁think▷", "<|channel|>analysis"])
def test_a_comment_may_talk_of_tags(comment: str) -> None:
    assert read_reply(json.dumps({**GOOD, "comment": comment})).comment == comment


# Which object counts


@pytest.mark.parametrize(
    "text",
    [
        f"First: {D}\nOn reflection: {G}",
        f"```json\n{D}\n```\nCorrected:\n```json\n{G}\n```",
        f"[{D}, {G}]",
        f"{D}{G}{{}}",
        f'{G} {{"confidence": 3}} {{1, 2}}',
    ],
)
def test_the_last_verdict_counts(text: str) -> None:
    assert read_reply(text).total == 91.5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f'{D} {{"accuracy": 20, "logic": 3', "no JSON verdict: its last object is broken"),
        (f'{D} {{"comment": "cut, "accuracy": 20, "total": 3}}', "no JSON verdict: its last object is broken"),
        (f'{D} {{"verdict": {G}}}', "no JSON verdict: its last object is broken or nested"),
        (f'{{"draft": {D}', "no JSON verdict"),
        (f'{D} {{"total": 20}}', "missing score: accuracy"),
        (json.dumps([1, 2]), "no JSON verdict"),
        (f"{'x' * LONGEST}{G}", "too long"),
        (f"{D}{'x' * LONGEST}{G}", "too long"),
        (G.replace("90", "9" * 5000), "off the scale: accuracy is inf"),
        (G.replace("90", "[" * 900 + "]" * 900), "not a number: accuracy is"),
    ],
    ids=lambda value: value[:25],
)
def test_no_draft_counts_for_a_verdict_that_cannot_be_read(text: str, reason: str) -> None:
    with pytest.raises(UnusableReplyError, match=re.escape(reason)):
        read_reply(text)


# Ambiguous and contradictory verdicts


@pytest.mark.parametrize(
    "text",
    [
        G[:-1] + ', "total": 20}',
        '{"total": 20, ' + G[1:],
        G[:-1] + ', "Total": 20}',
        G[:-1] + ', "tot\\u0061l ": 20}',
        G[:-1] + ', "total": 91.5}',
        G[:-1] + ', "comment": "wrong"}',
        G[:-1] + ', "more": {"a": 1, "a": 2}}',
    ],
)
def test_a_key_twice_is_no_verdict(text: str) -> None:
    with pytest.raises(UnusableReplyError, match=r"ambiguous: the key '.*' stands twice"):
        read_reply(text)


ALL = dict.fromkeys(CRITERIA, 0.0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (with_total(99, **ALL), "total is 99, and no criterion is above 0"),
        (with_total(1, **ALL), "total is 1, and no criterion is above 0"),
        (with_total(100), "total is 100, and no criterion is above 100"),
        (with_total(90, **dict.fromkeys(CRITERIA, 85.0)), "total is 90, and no criterion is above 85"),
        (with_total(90, accuracy=0), "total is 90, and accuracy is 0"),
        (with_total(76, accuracy=49), "total is 76, and accuracy is 49"),
        (with_total(0, **dict.fromkeys(CRITERIA, 100.0)), "total is 0, and every criterion is at least 100"),
        (with_total(49, **dict.fromkeys(CRITERIA, 86.0)), "total is 49, and every criterion is at least 86"),
    ],
)
def test_criteria_that_contradict_the_total_are_no_verdict(text: str, reason: str) -> None:
    if "above 100" in reason:  # as good as its best criterion, it may be
        assert read_reply(text).total == 100
        return
    with pytest.raises(UnusableReplyError, match=re.escape(f"contradiction: {reason}")):
        read_reply(text)


@pytest.mark.parametrize(
    ("total", "scores"),
    [
        (0, ALL),
        (100, dict.fromkeys(CRITERIA, 100.0)),
        (75, {**dict.fromkeys(CRITERIA, 100.0), "accuracy": 0.0}),  # the mean of the four
        (50, {**dict.fromkeys(CRITERIA, 100.0), "accuracy": 0.0}),  # what the rubric asks for
        (10, {}),  # stricter in the total than in the criteria
        (91.25, {}),
    ],
)
def test_totals_that_the_criteria_allow(total: float, scores: dict[str, Any]) -> None:
    assert read_reply(with_total(total, **scores)).total == total


# What is quoted


def test_what_is_quoted_is_redacted_before_it_is_cut() -> None:
    def redact(text: str) -> str:
        return text.replace("secret-" * 20, "[key]")

    for text in (f"I say {'secret-' * 20}", json.dumps({**GOOD, "total": "secret-" * 20})):
        with pytest.raises(UnusableReplyError) as refused:
            read_reply(text, redact)
        assert "[key]" in str(refused.value)
        assert "secret" not in str(refused.value)


def test_half_of_a_surrogate_pair_in_a_comment_becomes_a_question_mark() -> None:
    assert read_reply(G.replace("fine", "\\ud800!")).comment == "?!"


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 20_000,
        '{"a' * 20_000,
        '{"a":{' * 20_000,
        '{"x{"' * 20_000,
        '{"total"' * 20_000,
        r"\frac{1}{2}" * 20_000,
        "<think>" * 20_000,
        "</think>" * 20_000,
    ],
    ids=lambda text: text[:8],
)
def test_a_hostile_reply_takes_time_in_proportion(text: str) -> None:
    """Megabytes; a search that begins anew at every brace would take hours."""
    with pytest.raises(UnusableReplyError):
        read_reply(f"<think>{text}</think>{text}")
