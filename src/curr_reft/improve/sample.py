"""N answers to each query from the published curr_rl model, kept part by part, so that a killed run goes on.

A part is the answers to ``save_every`` queries, a Parquet file that is whole or not there. What a query is answered
with depends on the seed and its place among the queries alone, so the parts of a resumed run are those of an unbroken
one. Near-duplicates (``alike.py``) among the answers to one query count once: the first stays.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from curr_reft import processes
from curr_reft.errors import DamagedError, DataError
from curr_reft.files import write_atomic
from curr_reft.improve.alike import Likeness
from curr_reft.improve.config import PoolConfig, SelfImprovementConfig
from curr_reft.improve.records import Candidate, candidate_of, candidate_row
from curr_reft.integrity import AGAIN, bytes_entry, differing_file, read_record, read_sealed, write_sealed
from curr_reft.parquet import encode_rows, read_rows, write_rows
from curr_reft.policy.answers import Answered, among, answer_all
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.policy import Policy
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.seeding import derive_seed, stream

CANDIDATES, ACCOUNT, PARTS = "candidates.parquet", "sampling.json", "candidates"
FIRST_ROUND = 1


def draw_queries(
    questions: Sequence[Question], pools: Mapping[str, PoolConfig], seed: int, turn: int = FIRST_ROUND
) -> list[Question]:
    """``pools[domain].queries`` open questions of each domain, others in each round (``turn``) as far as there are.

    Raises DataError when a pool holds fewer.
    """
    drawn: list[Question] = []
    for domain, pool in pools.items():
        own = [question for question in questions if question.domain == domain]
        if len(own) < pool.queries:
            known = sorted({question.domain for question in questions})
            raise DataError(
                f"self_improvement.pools.{domain}",
                f"asks for {pool.queries} queries, but the data holds {len(own)} of this domain (domains there are: "
                f"{', '.join(known)}); lower queries or add rows to the pool",
            )
        names = ("queries", domain) if turn == FIRST_ROUND else ("queries", domain, turn)
        drawn += stream(seed, *names).sample(own, pool.queries)
    return drawn


def sample_candidates(
    load: Callable[[], Policy],
    queries: Sequence[Question],
    folder: Path,
    config: SelfImprovementConfig,
    sampling: SamplingConfig,
    rewards: RewardsConfig,
    seed: int,
    weights_sha256: str | None,
    say: Callable[[str], None],
) -> list[Candidate]:
    """``config.samples`` answers to each query, graded, without near-duplicates; ``folder`` holds them afterwards as
    ``candidates.parquet``, with ``sampling.json``, which says how they were drawn.

    What is there already from the same weights, queries and settings is not sampled again, and anything else is
    replaced; ``load`` gives the policy when there is something to sample. Raises DiskFullError.
    """
    drawn = sampling.model_copy(update={"group_size": config.samples, "temperature": config.temperature})
    settings = {
        "weights_sha256": weights_sha256,
        "queries_sha256": _queries_sha256(queries),
        "seed": seed,
        "sampling": drawn.model_dump(mode="json"),
        "rewards": rewards.model_dump(mode="json"),
        "queries_a_part": config.save_every,
    }
    by_id = {question.id: question for question in queries}
    if not processes.on_main(partial(_begun, folder, settings)):
        starts = range(0, len(queries), config.save_every)
        files = {start: folder / PARTS / f"part-{start:06d}.parquet" for start in starts}
        known = processes.on_main(partial(_sampled, folder))
        missing = [start for start in starts if files[start].name not in known]
        policy = load() if missing else None
        for start in missing:
            assert policy is not None
            places = range(start, min(start + config.save_every, len(queries)))
            part = [queries[place] for place in places]
            seeds = [among(derive_seed(seed, "candidates"), place, len(queries)) for place in places]
            groups = answer_all(policy, part, drawn, rewards, seed=seeds)
            rows = [candidate_row(each) for group in groups for each in different(group)]
            processes.on_main(partial(_write_part, files[start], rows))
            say(f"answers to {places[-1] + 1} of {len(queries)} queries sampled")
        processes.on_main(partial(_finish, folder, list(files.values()), settings, len(queries) * config.samples))
    rows = processes.on_main(partial(read_rows, folder / CANDIDATES))
    return [candidate_of(row, by_id[row["question"]]) for row in rows]


def different(group: Sequence[Answered]) -> list[Candidate]:
    """The answers to one query without near-duplicates of an earlier one; each keeps its number."""
    first: list[Likeness] = []
    found = []
    for number, answered in enumerate(group):
        likeness = Likeness.of(answered.completion)
        if any(likeness.same_as(other) for other in first):
            continue
        first.append(likeness)
        found.append(
            Candidate(
                question=answered.question,
                sample=number,
                completion=answered.completion,
                truncated=answered.truncated,
                grade=answered.grade,
                tokens=answered.tokens,
            )
        )
    return found


def sampling_account(folder: Path) -> dict[str, Any]:
    """What sampling came to: answers drawn, near-duplicates removed, tokens of what stayed."""
    account: dict[str, Any] = read_sealed(folder / ACCOUNT)["came_to"]
    return account


def _begun(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether all is sampled. What other settings left behind is removed; then ``settings`` stand in the folder."""
    path = folder / ACCOUNT
    before = read_sealed(path) if path.is_file() else {}
    if before.get("settings") == settings:
        done = "came_to" in before and read_record(path) is not None
        if done:
            shutil.rmtree(folder / PARTS, ignore_errors=True)  # a kill may have come before it
        return done
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    (folder / CANDIDATES).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_sealed(path, {"settings": dict(settings)})
    return False


def _sampled(folder: Path) -> set[str]:
    """Names of the parts that are there. Raises DamagedError for one that was changed since it was written."""
    listed: dict[str, Any] = read_sealed(folder / ACCOUNT).get(PARTS, {})
    problem = differing_file(folder / PARTS, listed)
    if problem is not None:
        raise DamagedError(problem, AGAIN)
    return {name for name in listed if (folder / PARTS / name).is_file()}


def _write_part(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a part. Its hash is noted first: a part that comes to its place is known from then on."""
    content = encode_rows(rows)
    account = read_sealed(path.parents[1] / ACCOUNT)
    parts = {**account.get(PARTS, {}), path.name: bytes_entry(content)}
    write_sealed(path.parents[1] / ACCOUNT, {**account, PARTS: parts})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)


def _finish(folder: Path, parts: Sequence[Path], settings: Mapping[str, Any], drawn: int) -> None:
    """The parts become one file; the account, written last, says that it is whole."""
    rows = [row for part in parts for row in read_rows(part)]
    write_rows(folder / CANDIDATES, rows)
    tokens = [row["tokens"] for row in rows]
    came_to = {
        "drawn": drawn,
        "near_duplicates": drawn - len(rows),
        "candidates": len(rows),
        "tokens": None if None in tokens else sum(tokens),
    }
    write_sealed(folder / ACCOUNT, {"settings": dict(settings), "came_to": came_to}, [folder / CANDIDATES])
    shutil.rmtree(folder / PARTS, ignore_errors=True)


def _queries_sha256(queries: Sequence[Question]) -> str:
    """Of all that is asked: a row that changed is another query."""
    lines = [json.dumps([q.id, q.prompt, repr(q.truth), [image.key for image in q.images]]) for q in queries]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
