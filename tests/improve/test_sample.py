"""Sampling in parts that are whole or not there, and the files of the phase."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from judged_rows import CLAIMED, LUCKY, RIGHT, WRONG_GUESS, config, question
from resealing import reseal

from curr_reft.errors import DamagedError, DataError
from curr_reft.files import read_json, read_jsonl
from curr_reft.improve import phase, sample
from curr_reft.improve.config import PoolConfig, SelfImprovementConfig
from curr_reft.improve.kept import completion_of
from curr_reft.improve.records import Candidate, candidate_of, candidate_row
from curr_reft.improve.sample import draw_queries, sample_candidates
from curr_reft.parquet import read_rows
from curr_reft.policy.answers import Answered
from curr_reft.policy.config import EMBEDDED, ModelConfig, SamplingConfig
from curr_reft.policy.load import load_chat_processor
from curr_reft.policy.rollout import Among
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.grading import grade


def test_a_pool_that_is_too_small_says_what_there_is() -> None:
    pool = [question(str(number)) for number in range(3)]
    with pytest.raises(DataError, match=r"self_improvement\.pools\.math: asks for 4 queries, but the data holds 3"):
        draw_queries(pool, {"math": PoolConfig(queries=4, quota=1)}, seed=0)
    with pytest.raises(DataError, match=r"domains there are: math"):
        draw_queries(pool, {"detection": PoolConfig(queries=1, quota=1)}, seed=0)
    drawn = draw_queries(pool, {"math": PoolConfig(queries=2, quota=1)}, seed=0)
    assert len({each.id for each in drawn}) == 2


def test_every_round_draws_its_own_queries() -> None:
    pool = [question(str(number)) for number in range(40)]
    rounds = [
        tuple(each.id for each in draw_queries(pool, {"math": PoolConfig(queries=10, quota=1)}, seed=0, turn=turn))
        for turn in (1, 2, 3, 1)
    ]
    assert len(set(rounds)) == 3
    assert rounds[0] == rounds[3]


class Model:
    """Stands for a model: the query ``a`` is answered rightly, and one answer comes twice. Counts what it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, dies_at: int | None = None) -> None:
        self.dies_at = dies_at
        self.asked: list[str] = []
        self.places: list[int] = []
        self.loads = 0
        monkeypatch.setattr(sample, "answer_all", self.answer_all)

    def load(self) -> Any:
        self.loads += 1
        return self

    def answer_all(self, _: Any, asked: Sequence[Question], *__: Any, seed: Sequence[Among]) -> list[list[Answered]]:
        if self.dies_at is not None and len(self.asked) >= self.dies_at:
            raise KeyboardInterrupt
        self.asked += [each.id for each in asked]
        self.places += [among.places[0] for among in seed]
        return [
            [
                Answered(question=each, completion=text, truncated=False, grade=grade(each, text), tokens=len(text))
                for text in ([RIGHT, LUCKY, RIGHT, WRONG_GUESS] if each.origin == "a" else [CLAIMED] * 4)
            ]
            for each in asked
        ]


POOL = [question(name) for name in "abcdefg"]


def sampled(model: Model, folder: Path, weights: str = "x", given: SelfImprovementConfig | None = None) -> Any:
    given = given or config().model_copy(update={"save_every": 2})
    return sample_candidates(
        model.load, POOL, folder, given, SamplingConfig(), RewardsConfig(), 0, weights, lambda _: None
    )


def test_near_duplicates_count_once_and_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = sampled(Model(monkeypatch), tmp_path)
    assert [(each.id, each.completion) for each in found[:4]] == [
        ("a/open#0", RIGHT), ("a/open#1", LUCKY), ("a/open#3", WRONG_GUESS), ("b/open#0", CLAIMED)
    ]  # fmt: skip
    account = read_json(tmp_path / "sampling.json")["came_to"]
    assert account["drawn"] == 28
    assert account["near_duplicates"] + account["candidates"] == 28
    assert account["tokens"] == sum(len(each.completion) for each in found)


def test_sampling_goes_on_with_the_part_it_was_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = Model(monkeypatch)
    unbroken = sampled(whole, tmp_path / "unbroken")
    with pytest.raises(KeyboardInterrupt):
        sampled(Model(monkeypatch, dies_at=4), tmp_path / "cut")
    parts = sorted(path.name for path in (tmp_path / "cut" / "candidates").iterdir())
    assert parts == ["part-000000.parquet", "part-000002.parquet"]
    rest = Model(monkeypatch)
    assert sampled(rest, tmp_path / "cut") == unbroken
    assert rest.asked == [each.id for each in POOL[4:]]
    assert rest.places == [4, 5, 6] == whole.places[4:]  # the random numbers of their own places
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("unbroken", "cut"))
    assert first == second
    assert set(first) == {"candidates.parquet", "sampling.json"}
    assert sampled(rest, tmp_path / "cut") == unbroken
    assert rest.loads == 1


@pytest.mark.parametrize("name", ["candidates/part-000000.parquet", "sampling.json"])
def test_a_part_or_account_that_was_changed_is_not_gone_on_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    unbroken = sampled(Model(monkeypatch), tmp_path / "unbroken")
    cut = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        sampled(Model(monkeypatch, dies_at=4), cut)
    content = (cut / name).read_bytes()
    (cut / name).write_bytes(content.replace(b"answer", b"answex").replace(b'"size": ', b'"size": 1'))
    assert (cut / name).read_bytes() != content
    model = Model(monkeypatch)
    with pytest.raises(DamagedError, match=re.escape(str(cut / name))):
        sampled(model, cut)
    assert model.loads == 0
    (cut / name).unlink()  # what the message says
    assert sampled(model, cut) == unbroken


def test_a_part_killed_before_its_rename_is_sampled_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its hash is noted first, and may be that of another answer on a machine whose sums are not exact."""
    unbroken = sampled(Model(monkeypatch), tmp_path / "unbroken")
    cut = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        sampled(Model(monkeypatch, dies_at=4), cut)
    parts = read_json(cut / "sampling.json")["candidates"]
    reseal(cut / "sampling.json", candidates={**parts, "part-000004.parquet": {"size": 1, "sha256": "0" * 64}})
    assert sampled(Model(monkeypatch), cut) == unbroken


def test_answers_of_other_weights_or_settings_are_sampled_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = Model(monkeypatch)
    sampled(model, tmp_path)
    sampled(model, tmp_path, weights="y")
    sampled(model, tmp_path, weights="y", given=config())
    assert len(model.asked) == 3 * len(POOL)


def test_a_candidate_comes_back_from_its_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found: list[Candidate] = sampled(Model(monkeypatch), tmp_path)
    by_id = {each.id: each for each in POOL}
    assert [candidate_of(candidate_row(each), by_id[each.question.id]) for each in found] == found


def test_the_files_of_the_phase_and_what_is_not_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = Model(monkeypatch)
    processor = load_chat_processor(ModelConfig(path=EMBEDDED))

    def keep(sha256: str) -> tuple[list[Any], dict[str, Any]]:
        pool = [question("a"), question("b")]
        given = config(math=(2, 2))
        return phase.keep_best_answers(
            model.load, pool, tmp_path, given, SamplingConfig(), RewardsConfig(), 0, sha256, processor, lambda _: None
        )

    examples, account = keep("x")
    assert sum(each.completion == RIGHT for each in examples) == len(examples) == account["kept"] == 1
    assert account["candidates"] == len(read_rows(tmp_path / "candidates.parquet")) == 4
    assert len(read_jsonl(tmp_path / "verdicts.jsonl")) == 4
    (row,) = read_jsonl(tmp_path / "kept.jsonl")
    assert completion_of(row) == RIGHT
    assert keep("x") == (examples, account)
    assert model.loads == 1
    # Killed before the account was written, or removed since: judged and selected again, but not sampled.
    for name in ("account.json", "kept.jsonl"):
        (tmp_path / name).unlink()
        assert keep("x") == (examples, account)
        assert model.loads == 1
    # Kept from the answers of other weights: all is made again.
    assert keep("y")[1]["weights_sha256"] == "y" == read_json(tmp_path / "account.json")["weights_sha256"]
    assert model.loads == 2
