"""The judge behind an OpenAI-compatible server: many requests at once, tried again with back-off, within a budget.

Every candidate ends as a verdict or as a failure with its reason, and both are in the cache before the next request of
that thread. Judging stops, to be resumed, when going on is of no use: a wrong key or model, no credit, a budget used
up, a server that is gone. What stopped it is no verdict on any candidate and is not kept.
"""

import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from curr_reft.errors import DataError, JudgeError
from curr_reft.improve.config import JudgeConfig
from curr_reft.improve.judges.asking import Asking, open_asking
from curr_reft.improve.judges.base import Workplace
from curr_reft.improve.judges.client import Client, Reply, Trouble, require_key
from curr_reft.improve.judges.pacing import Pacer, Pause
from curr_reft.improve.judges.pictures import data_url
from curr_reft.improve.judges.spending import Budget, cost_of, estimate_tokens
from curr_reft.improve.records import Candidate, Verdict
from curr_reft.improve.reply import UnusableReplyError, read_reply
from curr_reft.improve.rubric import JudgePrompt, load_rubric
from curr_reft.improve.verdict_cache import Entry

__all__ = ["EndpointJudge", "require_key"]

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds of back-off
PATIENCE = 600.0  # seconds a server may ask us to wait
ASKED_TWICE = 2  # an unusable reply is asked for once more: at temperature 0 a third differs no more
GONE = 20  # items in a row without a reply, after all their tries: the server is gone
NEVER_THERE = 3  # the same before the first reply: the address, the model or the request is wrong
NEWS = 10.0  # seconds between lines of progress


class EndpointJudge:
    """Implements ``judges.Judge``."""

    name = "endpoint"

    def __init__(self, config: JudgeConfig, workplace: Workplace) -> None:
        assert config.endpoint is not None, "checked with the recipe"
        self.config = config.endpoint
        self.workplace = workplace
        self.rubric = load_rubric(config.rubric, workplace.order)
        require_key(self.config)
        self._requests = 0
        self._account: dict[str, Any] = {}

    def account(self) -> Mapping[str, Any]:
        return self._account

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        config = self.config
        identity = {
            "kind": self.name,
            "model": config.model,
            "sampling": {"temperature": config.temperature, "max_tokens": config.max_tokens},
            "caps": [config.image_max_pixels, config.image_max_bytes],
        }
        with open_asking(candidates, self.rubric, self.workplace, identity) as (asking, keep):
            session = _Session(self, asking, keep)
            try:
                session.carry_out()
            finally:
                entries = {**asking.known, **asking.entries}.values()
                self._account = {
                    "model": config.model,
                    "rubric": self.rubric.name,
                    "requests": session.requests,
                    "from_cache": len(asking.known) - len(set(asking.known) & set(asking.missing)),
                    "asked": len(asking.entries),
                    "json_schema": session.with_schema,
                    "prompt_tokens": sum(entry.prompt_tokens for entry in entries),
                    "completion_tokens": sum(entry.completion_tokens for entry in entries),
                    "cost": None if config.prices is None else round(sum(entry.cost for entry in entries), 6),
                }
            return asking.verdicts()


class _StoppedError(Exception):
    """This thread ends, as judging stops; why stands in the session."""


class _Session:
    """One call of ``judge``: the state that its threads share."""

    def __init__(self, judge: EndpointJudge, asking: Asking, keep: Any) -> None:
        self.config = judge.config
        self.say = judge.workplace.say
        self.schema = judge.rubric.schema()
        self.asking = asking
        self.keep = keep
        self.requests = 0
        self.with_schema: bool | None = None  # None until a server has shown whether it takes one
        self.budget = Budget(limit=self.config.budget, spent=asking.spent)
        self.requests_pacer = Pacer(self.config.requests_per_minute)
        self.tokens_pacer = Pacer(self.config.tokens_per_minute)
        self.pause = Pause()
        self.stopped = threading.Event()
        self.why: JudgeError | None = None
        self.lock = threading.Lock()
        self.unanswered: list[tuple[bytes, Entry]] = []  # in a row, not kept before somebody was answered
        self.answered = False
        self.told = time.monotonic()

    def carry_out(self) -> None:
        """Ask all that is missing. Raises JudgeError when judging stops."""
        missing = list(self.asking.missing.items())
        self._announce()
        if not missing:
            return
        self.client = Client(self.config)
        try:
            # One alone until it is known whether the server takes a schema; the others then follow suit.
            while missing and self.with_schema is None and not self.stopped.is_set():
                self._item(*missing.pop(0))
            self._together(missing)
        finally:
            self.client.close()
        if self.why is not None:
            raise self.why
        for key, entry in self.unanswered:
            self.keep(key, entry)

    def _together(self, missing: Sequence[tuple[bytes, JudgePrompt]]) -> None:
        with ThreadPoolExecutor(max_workers=self.config.concurrency, thread_name_prefix="judge") as pool:
            futures = [pool.submit(self._item, key, prompt) for key, prompt in missing]
            try:
                wait(futures)
                for future in futures:
                    future.result()  # what is nobody's fault (a full disk, a defect) is raised here
            finally:  # after Ctrl-C too: what is under way ends and is kept, nothing new begins
                self.stopped.set()
                pool.shutdown(cancel_futures=True)

    def _announce(self) -> None:
        config, asking = self.config, self.asking
        text = f"judge {config.model}: {len(asking.missing)} answers to judge, {len(asking.known)} known"
        if config.prices is not None and asking.missing:
            prompts = [self._estimate(prompt) for prompt in asking.missing.values()]
            most = sum(cost_of(config.prices, tokens, config.max_tokens) for tokens in prompts)
            text += (
                f"; about {sum(prompts):,} tokens of prompts, at most {most:.2f} if every reply is as long as it may"
            )
            text += f", {self.budget.spent:.2f} spent before"
            if config.budget is not None:
                text += f", budget {config.budget:g}"
                if self.budget.spent + most > config.budget:
                    text += " (it may be used up before the end; what is judged by then is kept)"
        self.say(text)

    def _estimate(self, prompt: JudgePrompt) -> int:
        return estimate_tokens(prompt, self.config.image_max_pixels)

    def _item(self, key: bytes, prompt: JudgePrompt) -> None:
        if self.stopped.is_set():
            return
        try:
            entry, answered = self._ask(prompt)
        except _StoppedError:
            return
        except BaseException:
            self.stopped.set()
            raise
        with self.lock:
            if answered:
                self.answered = True
                held, self.unanswered = [*self.unanswered, (key, entry)], []
            else:
                held = []
                self.unanswered.append((key, entry))
                if len(self.unanswered) >= (GONE if self.answered else NEVER_THERE):
                    self._stop(f"{len(self.unanswered)} answers in a row got no reply; {entry.failure}")
        for each in held:
            self.keep(*each)
        self._tell()

    def _tell(self) -> None:
        with self.lock:
            if time.monotonic() - self.told < NEWS:
                return
            self.told = time.monotonic()
        done = list(self.asking.entries.values())
        failed = sum(entry.failure is not None for entry in done)
        cost = f", {self.budget.spent:.2f} spent" if self.config.prices is not None else ""
        self.say(f"judged {len(done)} of {len(self.asking.missing)}, {failed} without a verdict{cost}")

    def _ask(self, prompt: JudgePrompt) -> tuple[Entry, bool]:
        """(the verdict or the failure of one candidate, whether the server does answer). Raises _StoppedError."""
        config = self.config
        try:
            images = [data_url(image, config.image_max_pixels, config.image_max_bytes) for image in prompt.images]
            estimate = self._estimate(prompt)
        except DataError as error:
            return Entry(scores={}, total=None, failure=f"image: {error}"), True
        used = [0, 0]
        tries = unusable = 0
        while True:
            outcome = self._send(prompt, images, estimate, used)
            if isinstance(outcome, Trouble):
                tries += 1
                if outcome.kind == "stop" and not (outcome.status == 403 and self.answered):
                    self._stop(outcome.reason)
                    raise _StoppedError
                if outcome.kind != "again":
                    return self._entry(used, failure=f"refused by the server: {outcome.reason}"), self.answered
                if tries >= config.attempts:
                    return self._entry(used, failure=f"no reply after {tries} tries: {outcome.reason}"), False
                self._back_off(tries, outcome)
                continue
            try:
                return self._verdict(outcome, used), True
            except UnusableReplyError as error:
                unusable += 1
                if unusable >= ASKED_TWICE or outcome.refusal is not None:
                    return self._entry(used, failure=self.client.clean(str(error))), True

    def _verdict(self, reply: Reply, used: Sequence[int]) -> Entry:
        if reply.refusal is not None or reply.finish == "content_filter":
            raise UnusableReplyError(f"refusal: {reply.refusal or 'the filter of the server'}")
        if reply.finish == "length":
            raise UnusableReplyError(f"cut by length: the reply has more than max_tokens {self.config.max_tokens}")
        scores = read_reply(reply.text)
        return self._entry(used, scores=scores.criteria, total=scores.total, comment=self.client.clean(scores.comment))

    def _entry(
        self,
        used: Sequence[int],
        *,
        scores: Mapping[str, float] | None = None,
        total: float | None = None,
        comment: str = "",
        failure: str | None = None,
    ) -> Entry:
        return Entry(
            scores=scores or {},
            total=total,
            comment=comment,
            failure=failure,
            prompt_tokens=used[0],
            completion_tokens=used[1],
            cost=cost_of(self.config.prices, used[0], used[1]),
        )

    def _send(self, prompt: JudgePrompt, images: list[str], estimate: int, used: list[int]) -> Reply | Trouble:
        """One request, when limits and budget allow it; ``used`` tokens grow by what it took."""
        config = self.config
        most = cost_of(config.prices, estimate, config.max_tokens)
        self._wait(max(self.requests_pacer.reserve(1), self.tokens_pacer.reserve(estimate + config.max_tokens)))
        self._wait_for_pause()
        if not self.budget.hold(most):
            self._stop(
                f"the budget of {config.budget:g} would be exceeded ({self.budget.spent:.2f} spent, a reply costs up "
                f"to {most:.4f}); raise self_improvement.judge.endpoint.budget to go on"
            )
            raise _StoppedError
        before = tuple(used)
        try:
            outcome = self._exchange(prompt.prompt, images)
            if isinstance(outcome, Reply):
                told = outcome.prompt_tokens, outcome.completion_tokens
                used[0] += estimate if told[0] is None else told[0]
                used[1] += config.max_tokens if told[1] is None else told[1]
        finally:
            self.budget.settle(most, cost_of(config.prices, used[0] - before[0], used[1] - before[1]))
        return outcome

    def _exchange(self, text: str, images: list[str]) -> Reply | Trouble:
        """With the schema, or, where the server refuses the first request for it, without; chosen once."""
        self._count()
        outcome = self.client.ask(text, images, None if self.with_schema is False else self.schema)
        if self.with_schema is not None:
            return outcome
        if isinstance(outcome, Reply):
            self.with_schema = True
        elif outcome.status in (400, 422):
            self._count()
            plain = self.client.ask(text, images, None)
            if isinstance(plain, Reply):
                self.with_schema = False
                self.say(f"the server takes no JSON schema ({outcome.reason}): replies are read as text")
            return plain
        return outcome

    def _count(self) -> None:
        with self.lock:
            self.requests += 1

    def _back_off(self, tries: int, trouble: Trouble) -> None:
        """Wait before the next try: what the server asks for, all of us; else twice as long each time, with jitter, so
        that those who failed together do not come back together."""
        if trouble.retry_after is not None:
            if trouble.retry_after > PATIENCE:
                self._stop(f"the server asks to wait {trouble.retry_after:.0f} s ({trouble.reason})")
                raise _StoppedError
            self.pause.extend(trouble.retry_after)
            self._wait(random.uniform(0, FIRST_WAIT / 5))
            return
        self._wait(min(LONGEST_WAIT, FIRST_WAIT * 2 ** (tries - 1)) * random.uniform(0.5, 1.0))

    def _wait_for_pause(self) -> None:
        while (seconds := self.pause.remaining()) > 0:
            self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        """Sleep, but not beyond the end of judging. Raises _StoppedError."""
        if self.stopped.wait(seconds) if seconds > 0 else self.stopped.is_set():
            raise _StoppedError

    def _stop(self, reason: str) -> None:
        """Nothing new begins; the first reason is the one that is told."""
        if self.why is None:
            self.why = JudgeError(
                f"judging stopped at {self.config.base_url}: {reason}. What was judged is kept; put it right and "
                "repeat the command (a run: with --resume), which goes on from there"
            )
        self.stopped.set()
