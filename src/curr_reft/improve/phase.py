"""Phase 2 up to the fine-tuning: sample, judge, select. Once the account, written last, is there, none is repeated."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from curr_reft import processes
from curr_reft.files import read_json, read_jsonl, write_json, write_jsonl
from curr_reft.improve.config import SelfImprovementConfig
from curr_reft.improve.judges import Workplace, judge_all
from curr_reft.improve.records import candidate_row
from curr_reft.improve.sample import draw_queries, sample_candidates
from curr_reft.improve.select import select
from curr_reft.parquet import write_rows
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.policy import Policy
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.train.sft import SftExample


def keep_best_answers(
    load: Callable[[], Policy],
    questions: Sequence[Question],
    folder: Path,
    config: SelfImprovementConfig,
    sampling: SamplingConfig,
    rewards: RewardsConfig,
    seed: int,
    weights_sha256: str | None,
    say: Callable[[str], None],
) -> tuple[list[SftExample], dict[str, Any]]:
    """(examples to learn, the account). ``load`` gives the curr_rl policy when sampling is still to be done.

    What was kept before from answers of other weights than ``weights_sha256`` is made again.

    There may be no examples: that no answer passes is a finding of the run, not its failure. Raises DataError for a
    pool that is too small.
    """
    path = folder / "account.json"
    if not processes.on_main(lambda: path.is_file() and read_json(path).get("weights_sha256") == weights_sha256):
        queries = draw_queries(questions, config.pools, seed)
        candidates = sample_candidates(load(), queries, config, sampling, rewards, seed)

        def judge() -> None:
            write_rows(folder / "candidates.parquet", map(candidate_row, candidates))
            cache = Path(config.judge.cache) if config.judge.cache else folder / "verdicts.sqlite"
            judged = judge_all(config.judge, candidates, Workplace(cache=cache, say=say))
            write_jsonl(folder / "verdicts.jsonl", (verdict.to_dict() for verdict in judged.verdicts))
            write_json(folder / "judge.json", judged.account)
            kept, account = select(candidates, judged.verdicts, config, seed)
            write_jsonl(folder / "kept.jsonl", (entry.to_dict() for entry in kept))
            write_json(path, {**account, "weights_sha256": weights_sha256})  # last: it says that the others are whole

        processes.on_main(judge)
    account, rows = processes.on_main(lambda: (read_json(path), read_jsonl(folder / "kept.jsonl")))
    by_id = {question.id: question for question in questions}
    return [SftExample(question=by_id[row["id"]], completion=row["completion"]) for row in rows], account
