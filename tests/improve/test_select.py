"""What is kept of judged answers, and that the account adds up."""

from dataclasses import replace

import pytest
from judged_rows import CLAIMED, LUCKY, RIGHT, candidate, config, question, verdict

from curr_reft.improve.alike import Likeness
from curr_reft.improve.config import SelectionConfig
from curr_reft.improve.findings import findings
from curr_reft.improve.records import Candidate
from curr_reft.improve.select import FATES, select, told_short
from curr_reft.rewards.grade import Grade, Status


def test_the_threshold_is_strict_and_verification_is_above_the_judge() -> None:
    asked = [
        candidate(question("at"), RIGHT),
        candidate(question("above"), RIGHT),
        candidate(question("wrong"), CLAIMED),
        candidate(question("formless"), "so 5 <answer> 5 </answer>"),
    ]
    found = [verdict(each, total) for each, total in zip(asked, (85.0, 85.01, 100, 100), strict=True)]
    selected = select(asked, found, config(), seed=0)
    assert [each.candidate.question.origin for each in selected.kept] == ["above"]
    assert selected.account["by_domain"]["math"]["above"] == 1
    assert list(selected.fates.values()) == ["not_above", "kept", "not_verified", "bad_form"]


def ungraded(name: str, status: Status) -> Candidate:
    grade = Grade(status=status, format=1.0, accuracy=None, correct=None, reason="")
    return Candidate(question=question(name), sample=0, completion=RIGHT, truncated=False, grade=grade)


def test_the_judge_alone_decides_where_there_is_no_truth_and_only_there() -> None:
    asked = [ungraded("free", Status.NO_TRUTH), ungraded("hung", Status.TIMED_OUT), ungraded("bad", Status.NO_TRUTH)]
    found = [verdict(each, total) for each, total in zip(asked, (90, 90, 80), strict=True)]
    assert select(asked, found, config(), seed=0).fates == {
        "free/open#0": "kept",
        "hung/open#0": "not_verified",
        "bad/open#0": "not_above",
    }


def test_the_best_of_each_query_is_kept_the_first_of_equals() -> None:
    asked = [candidate(question("a"), RIGHT, sample) for sample in range(4)]
    found = [verdict(each, total) for each, total in zip(asked, (90, 95, 95, None), strict=True)]
    selected = select(asked, found, config(), seed=0)
    assert [(each.candidate.sample, each.total) for each in selected.kept] == [(1, 95)]
    account = selected.account
    assert (account["candidates"], account["kept"], account["failed_verdicts"]) == (4, 1, 1)


def test_quotas_keep_the_highest_and_the_account_adds_up() -> None:
    asked = [candidate(question(f"m{number}"), RIGHT) for number in range(6)]
    asked += [candidate(question(f"t{number}", domain="arithmetic"), RIGHT) for number in range(3)]
    scores = (90, 99, 98, 90, 80, 90, 90, 100, 10)
    found = [verdict(each, total) for each, total in zip(asked, scores, strict=True)]
    chosen = config(math=(6, 3), arithmetic=(3, 5))
    selected = select(asked, found, chosen, seed=0)
    by_domain: dict[str, list[float]] = {}
    for each in selected.kept:
        by_domain.setdefault(each.candidate.question.domain, []).append(each.total)
    assert by_domain == {"math": [99, 98, 90], "arithmetic": [100, 90]}
    domains = selected.account["by_domain"]
    numbers = ("queries", "candidates", "above", "queries_answered", "kept", "quota", "short")
    assert [domains["math"][name] for name in numbers] == [6, 6, 5, 5, 3, 3, 0]
    assert [domains["arithmetic"][name] for name in numbers] == [3, 3, 2, 2, 2, 5, 3]
    for key in ("queries", "candidates", "kept"):
        assert selected.account[key] == sum(domain[key] for domain in domains.values())
    for domain in domains.values():
        assert tuple(domain["fates"]) == FATES
        assert sum(domain["fates"].values()) == domain["candidates"]
    assert domains["math"]["fates"]["over_quota"] == 2
    assert told_short(selected.account) == [
        "arithmetic: 2 of 5 kept, 3 short; 2 of 3 queries have an answer that passes; of 3 answers 1 not above 85"
    ]
    # Equals at the quota's edge are drawn by the seed, not by their place.
    edge = {select(asked, found, chosen, seed=seed).kept[2].candidate.question.origin for seed in range(20)}
    assert edge == {"m0", "m3", "m5"}
    again = select(asked[::-1], found[::-1], chosen, seed=0).kept
    assert {each.candidate.id for each in again} == {each.candidate.id for each in selected.kept}


def long_answer(name: str, story: int) -> Candidate:
    words = " ".join(f"w{story}-{place}" for place in range(30))  # 60 words: the hyphen parts them
    return candidate(question(name), f"<think> {words} so 5 </think> <answer> 5 </answer>")


def test_of_long_answers_that_are_alike_only_some_are_kept() -> None:
    asked = [long_answer(f"q{number}", story=number // 4) for number in range(8)]
    found = [verdict(each, 100) for each in asked]

    def fates(**selection: int | None) -> list[str]:
        given = config().model_copy(update={"selection": SelectionConfig(**selection)})
        return sorted(select(asked, found, given, seed=0).fates.values())

    assert fates(most_alike=2) == ["alike"] * 4 + ["kept"] * 4
    assert fates(most_alike=None) == ["kept"] * 8
    assert fates(most_alike=1, alike_words=100) == ["kept"] * 8  # they are shorter


def test_length_bands_spread_what_a_quota_keeps() -> None:
    """A judge who likes length: by totals alone only long answers are kept; with bands every length is."""
    stories = [
        candidate(question(f"q{number:02d}"), f"<think> {'so ' * (number + 1)}</think> <answer> 5 </answer>")
        for number in range(40)
    ]
    found = [verdict(each, 90 + number / 10) for number, each in enumerate(stories)]

    def kept(bands: int) -> list[int]:
        given = config(math=(40, 8)).model_copy(
            update={"selection": SelectionConfig(length_bands=bands, most_alike=None)}
        )
        return sorted(int(each.candidate.question.origin[1:]) for each in select(stories, found, given, seed=0).kept)

    assert kept(1) == list(range(32, 40))
    assert kept(4) == [8, 9, 18, 19, 28, 29, 38, 39]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (RIGHT, RIGHT.upper().replace("THINK", "think").replace("ANSWER", "answer"), True),
        (RIGHT, RIGHT.replace(" so 5 ", ", so  5. "), True),  # punctuation and white space
        (RIGHT, RIGHT.replace("<answer> 5", "<answer> -5"), False),  # a sign is another answer
        (RIGHT, RIGHT.replace("<answer> 5", "<answer> 6"), False),
        (RIGHT, RIGHT.replace("2 red", "4 red"), False),  # one word in twelve: the runs of three differ
        (RIGHT, LUCKY, False),
        ("<think> a b c", "<think> a b c", True),  # no answer block in either
        ("<think> a b c", RIGHT, False),
    ],
)
def test_what_is_a_near_duplicate(first: str, second: str, same: bool) -> None:
    one, other = Likeness.of(first), Likeness.of(second)
    assert one.same_as(other) is other.same_as(one) is same


def test_findings_compare_the_judge_with_the_truth() -> None:
    asked = [candidate(question("a"), text, number) for number, text in enumerate((RIGHT, CLAIMED, LUCKY, CLAIMED))]
    asked.append(replace(ungraded("b", Status.NO_TRUTH), sample=9))
    found = [verdict(each, total) for each, total in zip(asked, (100, 95, 5, None, None), strict=True)]
    selected = select(asked, found, config(), seed=0)
    facts = findings(asked, found, selected)
    assert facts["histograms"]["total"] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert facts["against_truth"] == {
        "above": {"right": 1, "wrong": 1},
        "not_above": {"right": 1, "wrong": 0},
        "unknown": {"answers": 2},
    }
    (pair,) = facts["examples"]
    assert (pair["kept"]["completion"], pair["refused"]["completion"]) == (RIGHT, LUCKY)
    assert pair["refused"]["fate"] == "not_above"
