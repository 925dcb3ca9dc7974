"""Phase 2 up to the fine-tuning: sample, judge, select. Once the account, written last, is there, none is repeated.

Each step leaves its files and can be done alone (``curr-reft sample``, ``judge``, ``select``): candidates.parquet and
sampling.json; verdicts.jsonl and judge.json; kept.jsonl, images/, dataset_info.json and account.json.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from curr_reft import processes, rounds
from curr_reft.errors import UsageError
from curr_reft.files import read_jsonl, write_jsonl
from curr_reft.improve.config import JudgeConfig, SelfImprovementConfig
from curr_reft.improve.findings import findings
from curr_reft.improve.judges import Judged, Workplace, judge_all, require_verdicts
from curr_reft.improve.kept import KEPT, completion_of, write_kept
from curr_reft.improve.records import Candidate, Verdict, candidate_of
from curr_reft.improve.sample import ACCOUNT as SAMPLING
from curr_reft.improve.sample import CANDIDATES, draw_queries, sample_candidates, sampling_account
from curr_reft.improve.select import select, told_short
from curr_reft.integrity import FILES, content_of, read_record, read_sealed, write_sealed
from curr_reft.parquet import read_rows
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.policy import Policy
from curr_reft.policy.processor import ChatProcessor
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.train.learnable import PLACES, refuse_examples
from curr_reft.train.sft import SftExample

VERDICTS, JUDGE, ACCOUNT = "verdicts.jsonl", "judge.json", "account.json"


def keep_best_answers(
    load: Callable[[], Policy],
    questions: Sequence[Question],
    folder: Path,
    config: SelfImprovementConfig,
    sampling: SamplingConfig,
    rewards: RewardsConfig,
    seed: int,
    weights_sha256: str | None,
    processor: ChatProcessor,
    say: Callable[[str], None],
    turn: int = 1,
) -> tuple[list[SftExample], dict[str, Any]]:
    """(examples to learn, the account). ``load`` gives the curr_rl policy when sampling is still to be done; ``turn``
    is the number of the round.

    What was kept before from answers of other weights than ``weights_sha256`` is made again.

    There may be no examples: that no answer passes is a finding of the run, not its failure. Raises DataError for a
    pool that is too small, JudgeError when judging stops.
    """
    path = folder / ACCOUNT

    def is_kept() -> bool:
        account = read_record(path)
        return account is not None and account["weights_sha256"] == weights_sha256

    if not processes.on_main(is_kept):
        queries = draw_queries(questions, config.pools, seed, turn)
        candidates = sample_candidates(load, queries, folder, config, sampling, rewards, seed, weights_sha256, say)

        def judge_and_select() -> None:
            place = Workplace(cache=cache_of(config.judge, folder), say=say, before=judged_before(folder, questions))
            judged = judge_all(config.judge, candidates, place)
            write_verdicts(folder, judged)
            require_verdicts(judged)
            keep_selected(candidates, judged.verdicts, folder, config, seed, processor, weights_sha256, say)

        processes.on_main(judge_and_select)
    account, rows = processes.on_main(lambda: (content_of(read_sealed(path)), read_jsonl(folder / KEPT)))
    by_id = {question.id: question for question in questions}
    return [SftExample(question=by_id[row["id"]], completion=completion_of(row)) for row in rows], account


def cache_of(judge: JudgeConfig, folder: Path) -> Path:
    """The file of verdicts on the answers in ``folder``: one for all rounds of a run, beside those of the first."""
    return Path(judge.cache) if judge.cache else [*rounds.earlier(folder), folder][0] / "verdicts.sqlite"


def judged_before(folder: Path, questions: Sequence[Question]) -> list[Candidate]:
    """The answers of the rounds before that of ``folder``."""
    return [each for earlier in rounds.earlier(folder) for each in read_candidates(earlier, questions)]


def keep_selected(
    candidates: Sequence[Candidate],
    verdicts: Sequence[Verdict],
    folder: Path,
    config: SelfImprovementConfig,
    seed: int,
    processor: ChatProcessor,
    weights_sha256: str | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Select of what ``processor`` can make examples of, write what is kept, and then the account, which says that all
    is whole. Returns the account."""
    (folder / ACCOUNT).unlink(missing_ok=True)
    examples = [SftExample(question=each.question, completion=each.completion) for each in candidates]
    refused = refuse_examples(processor, examples, config.sft.max_length, PLACES)
    unlearnable = {each.id: found.kind for each, found in zip(candidates, refused, strict=True) if found is not None}
    selected = select(candidates, verdicts, config, seed, unlearnable)
    write_kept(folder, selected.kept, processor.frame)
    account = {
        **selected.account,
        **findings(candidates, verdicts, selected),
        "sampling": sampling_account(folder),
        "judging": content_of(read_sealed(folder / JUDGE)),
        "weights_sha256": weights_sha256,
    }
    files = (folder / name for name in (KEPT, VERDICTS, JUDGE))
    write_sealed(folder / ACCOUNT, account, (file for file in files if file.is_file()))
    for line in told_short(account):
        say(line)
    return account


def write_verdicts(folder: Path, judged: Judged) -> None:
    """Write the verdicts, and then the account of the judge, which says that they are whole."""
    write_jsonl(folder / VERDICTS, (verdict.to_dict() for verdict in judged.verdicts))
    write_sealed(folder / JUDGE, judged.account, [folder / VERDICTS])


def read_candidates(folder: Path, questions: Sequence[Question]) -> list[Candidate]:
    """The candidates in ``folder`` with their questions. Raises UsageError when they are of other data, DamagedError
    when they are not as they were sampled."""
    path = folder / CANDIDATES
    _require_listed(path, folder / SAMPLING, "sample")
    by_id = {question.id: question for question in questions}
    rows = read_rows(path)
    unknown = [row["question"] for row in rows if row["question"] not in by_id]
    changed = [row["question"] for row in rows if row["question"] in by_id and _changed(row, by_id[row["question"]])]
    if unknown or changed:
        first = (unknown or changed)[0]
        raise UsageError(
            f"{path}: the query {first} {'is not in' if unknown else 'reads otherwise in'} the data of the recipe; "
            "give the recipe that the answers were sampled with"
        )
    return [candidate_of(row, by_id[row["question"]]) for row in rows]


def read_verdicts(folder: Path, candidates: Sequence[Candidate]) -> list[Verdict]:
    """The verdicts in ``folder``, in the order of the candidates. Raises UsageError when they are of others,
    DamagedError when they are not as they were judged."""
    path = folder / VERDICTS
    _require_listed(path, folder / JUDGE, "judge")
    by_id = {row["candidate_id"]: Verdict(**row) for row in read_jsonl(path)}
    missing = [candidate.id for candidate in candidates if candidate.id not in by_id]
    if missing:
        raise UsageError(
            f"{path} holds no verdict on {missing[0]} and {len(missing) - 1} more; "
            f"judge again: curr-reft judge {folder}"
        )
    return [by_id[candidate.id] for candidate in candidates]


def _require_listed(path: Path, record: Path, command: str) -> None:
    """Raise UsageError where ``path`` or the ``record`` that lists it is not there, or not yet; DamagedError where one
    was changed."""
    for needed in (path, record):
        if not needed.is_file():
            raise UsageError(f"{needed} is not there; curr-reft {command} writes it")
    found = read_record(record)
    if found is None or path.name not in found.get(FILES, {}):
        raise UsageError(f"{path} is not whole yet; repeat curr-reft {command}")


def _changed(row: Mapping[str, Any], question: Question) -> bool:
    return bool(row["prompt"] != question.prompt or row["task"] != question.task)
