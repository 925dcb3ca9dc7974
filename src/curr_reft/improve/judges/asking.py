"""What the judges that ask a model share: prompts and keys of candidates, and what is still to be asked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from curr_reft.console import progress
from curr_reft.errors import DataError
from curr_reft.improve.judges.base import Workplace
from curr_reft.improve.judges.pictures import content_sha256
from curr_reft.improve.records import Candidate, Verdict
from curr_reft.improve.rubric import JudgePrompt, Rubric
from curr_reft.improve.verdict_cache import Entry, VerdictCache, cache_key


@dataclass(frozen=True, kw_only=True)
class Asking:
    """The candidates of one call, sorted by what is known of them."""

    candidates: Sequence[Candidate]
    keys: Sequence[bytes | None]  # of each candidate; None: it cannot be asked
    cannot: Mapping[str, str]  # candidate id -> why
    known: dict[bytes, Entry]
    missing: Mapping[bytes, JudgePrompt]  # equal answers to one query are asked once
    spent: float  # what all that is known has cost, of these candidates, of earlier rounds and other passes
    rubric: Rubric
    entries: dict[bytes, Entry] = field(default_factory=dict)  # of what was asked in this call

    def verdicts(self) -> list[Verdict]:
        """One for each candidate, in order. All of ``missing`` has been asked."""
        return [self._verdict(each, key) for each, key in zip(self.candidates, self.keys, strict=True)]

    def _verdict(self, candidate: Candidate, key: bytes | None) -> Verdict:
        if key is None:
            return Verdict(
                candidate_id=candidate.id,
                scores={},
                total=None,
                failure=self.cannot[candidate.id],
                rubric=self.rubric.name,
            )
        entry = self.entries.get(key) or self.known[key]
        return Verdict(
            candidate_id=candidate.id,
            scores=dict(entry.scores),
            total=entry.total,
            failure=entry.failure,
            comment=entry.comment,
            reply=entry.reply,
            rubric=self.rubric.name,
        )


@contextmanager
def open_asking(
    candidates: Sequence[Candidate], rubric: Rubric, workplace: Workplace, identity: Mapping[str, Any]
) -> Iterator[tuple[Asking, Callable[[bytes, Entry], None]]]:
    """(what is to be asked, the call that keeps one entry; any thread may make it).

    ``identity`` is what decides a verdict besides rubric, prompt, images and repeat: the judge's kind, model, sampling.
    Raises UsageError for a file that is no cache.
    """
    contents: dict[str, str] = {}

    def key_of(candidate: Candidate) -> tuple[JudgePrompt, bytes]:
        """Raises DataError for an image that cannot be opened."""
        prompt = rubric.prompt(candidate)
        for image in prompt.images:
            if image.key not in contents:
                contents[image.key] = content_sha256(image)
        return prompt, cache_key(
            **identity,
            rubric=[rubric.version, rubric.sha256],
            prompt=prompt.prompt,
            images=[contents[image.key] for image in prompt.images],
            repeat=workplace.repeat,
        )

    keys: list[bytes | None] = []
    cannot: dict[str, str] = {}
    known: dict[bytes, Entry] = {}
    missing: dict[bytes, JudgePrompt] = {}
    with VerdictCache(workplace.cache) as cache:
        for candidate in candidates:
            try:
                prompt, key = key_of(candidate)
            except DataError as error:
                cannot[candidate.id] = f"image: {error}"
                keys.append(None)
                continue
            keys.append(key)
            if key in known or key in missing:
                continue
            entry = cache.read(key)
            if entry is not None:
                known[key] = entry
            if entry is None or (workplace.retry_failed and entry.failure is not None):
                missing[key] = prompt
        paid = dict(known)
        for candidate in workplace.before:
            with suppress(DataError):  # it could not be asked then either, and cost nothing
                _, key = key_of(candidate)
                entry = cache.read(key)
                if entry is not None:
                    paid[key] = entry
        asking = Asking(
            candidates=candidates,
            keys=keys,
            cannot=cannot,
            known=known,
            missing=missing,
            spent=workplace.spent + sum(entry.cost for entry in paid.values()),
            rubric=rubric,
        )

        def keep(key: bytes, entry: Entry) -> None:
            failed = known.get(key)
            if failed is not None:  # it was asked again, and what the failure took was paid all the same
                entry = replace(
                    entry,
                    prompt_tokens=failed.prompt_tokens + entry.prompt_tokens,
                    completion_tokens=failed.completion_tokens + entry.completion_tokens,
                    cost=failed.cost + entry.cost,
                )
            cache.write(key, entry)
            asking.entries[key] = entry
            shown.reach(len(asking.entries))

        with progress("judging answers", len(missing), lines=False) as shown:  # judges print lines with what they know
            yield asking, keep
