"""The judge in this process: an image-text-to-text model, asked in batches through the project's own rollout."""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from curr_reft.errors import DataError, JudgeError
from curr_reft.improve.config import JudgeConfig
from curr_reft.improve.judges.asking import Asking, open_asking
from curr_reft.improve.judges.base import RETRY, Workplace
from curr_reft.improve.records import Candidate, Verdict
from curr_reft.improve.reply import UnusableReplyError, excerpt, quoted, read_reply
from curr_reft.improve.rubric import JudgePrompt, load_rubric
from curr_reft.improve.verdict_cache import Entry
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.load import model_folder
from curr_reft.policy.policy import Policy
from curr_reft.policy.rollout import rollout
from curr_reft.policy.types import EncodedPrompt
from curr_reft.seeding import derive_seed
from curr_reft.train.publish import weights_hash

NO_VERDICT = 20  # replies without one, before the first verdict: the judge does not keep the form


class LocalJudge:
    """Implements ``judges.Judge``. The model is loaded when there is something to ask, and let go afterwards."""

    name = "local"

    def __init__(self, config: JudgeConfig, workplace: Workplace) -> None:
        assert config.local is not None, "checked with the recipe"
        self.config = config.local
        self.workplace = workplace
        self.rubric = load_rubric(config.rubric, workplace.order)
        self._account: dict[str, Any] = {}

    def account(self) -> Mapping[str, Any]:
        return self._account

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        config = self.config
        with open_asking(candidates, self.rubric, self.workplace, self._identity()) as (asking, keep):
            self.workplace.say(
                f"judge {config.model.path}: {len(asking.missing)} answers to judge, {len(asking.known)} known"
            )
            missing = iter(asking.missing.items())
            policy = self.workplace.load(config.model) if asking.missing else None
            while batch := list(islice(missing, config.batch)):
                assert policy is not None
                for key, entry in self._batch(policy, batch):
                    keep(key, entry)
                self.workplace.say(f"judged {len(asking.entries)} of {len(asking.missing)}")
                self._require_verdict(asking)
            entries = {**asking.known, **asking.entries}.values()
            self._account = {
                "model": config.model.path,
                "rubric": self.rubric.name,
                "from_cache": len(asking.known) - len(set(asking.known) & set(asking.missing)),
                "asked": len(asking.entries),
                "prompt_tokens": sum(entry.prompt_tokens for entry in entries),
                "completion_tokens": sum(entry.completion_tokens for entry in entries),
            }
            return asking.verdicts()

    def _require_verdict(self, asking: Asking) -> None:
        """Raise JudgeError where many replies, and all so far, hold no verdict."""
        entries = list(asking.entries.values())
        unreadable = [entry for entry in entries if entry.reply]
        if len(unreadable) < NO_VERDICT or any(entry.failure is None for entry in (*entries, *asking.known.values())):
            return
        raise JudgeError(
            f"judging stopped: the first {len(unreadable)} replies of {self.config.model.path} hold no verdict "
            f"({unreadable[0].failure}). The first reply: {quoted(unreadable[0].reply)}. What was "
            f"judged is kept; {RETRY}"
        )

    def _identity(self) -> dict[str, Any]:
        """A folder is known by its weights, a model of a hub by name and revision."""
        model = self.config.model
        folder = Path(model_folder(model.path))
        return {
            "kind": self.name,
            "model": [weights_hash(folder)] if folder.is_dir() else [model.path, model.revision],
            "sampling": {"temperature": self.config.temperature, "max_new_tokens": self.config.max_new_tokens},
            "caps": [model.min_pixels, model.max_pixels, model.dtype, model.quantize],
        }

    def _batch(self, policy: Policy, batch: Sequence[tuple[bytes, JudgePrompt]]) -> list[tuple[bytes, Entry]]:
        """The entries of some prompts. Draws depend on the prompt alone, so neither batch nor order changes any."""
        config = self.config
        done: list[tuple[bytes, Entry]] = []
        asked: list[tuple[bytes, EncodedPrompt]] = []
        for key, prompt in batch:
            try:
                asked.append((key, policy.processor.encode_question(prompt)))
            except DataError as error:  # too long for the model, words it does not know
                done.append((key, Entry(scores={}, total=None, failure=f"cannot be asked: {error.reason}")))
        sampling = SamplingConfig(
            group_size=1,
            temperature=config.temperature,
            max_new_tokens=config.max_new_tokens,
            rows_at_once=config.batch,
        )
        seeds = [[derive_seed(0, "judge", key.hex())] for key, _ in asked]
        groups = rollout(policy, [encoded for _, encoded in asked], sampling, seed=seeds)
        for (key, encoded), group in zip(asked, groups, strict=True):
            (completion,) = group.completions
            tokens: Any = {"prompt_tokens": encoded.length, "completion_tokens": completion.length}
            try:
                if completion.truncated:
                    raise UnusableReplyError(
                        f"cut by length: the reply has more than max_new_tokens {config.max_new_tokens}"
                    )
                scores = read_reply(completion.text)
            except UnusableReplyError as error:
                reply = excerpt(completion.text)
                done.append((key, Entry(scores={}, total=None, failure=str(error), reply=reply, **tokens)))
            else:
                done.append((key, Entry(scores=scores.criteria, total=scores.total, comment=scores.comment, **tokens)))
        return done
