"""The judge behind an OpenAI-compatible server: many requests at once, tried again with back-off, within a budget.

Every candidate ends as a verdict or as a failure with its reason, and both are in the cache before the next request of
that thread. Judging stops, to be resumed, when it is of no use: a wrong key, address or model, no credit, a budget used
up, a server that is gone, replies that hold no verdict. A failure of the request is no verdict on any candidate and is
not kept; nor is one that may be the request's, until another candidate got a reply.
"""

import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Literal

from curr_reft.errors import DataError, JudgeError
from curr_reft.improve.config import JudgeConfig
from curr_reft.improve.judges.asking import Asking, open_asking
from curr_reft.improve.judges.base import RETRY, Workplace
from curr_reft.improve.judges.client import Client, Reply, Trouble, require_key
from curr_reft.improve.judges.pacing import Pacer, Pause
from curr_reft.improve.judges.pictures import data_url
from curr_reft.improve.judges.spending import Budget, cost_of, estimate_tokens
from curr_reft.improve.records import Candidate, Verdict
from curr_reft.improve.reply import UnusableReplyError, excerpt, quoted, read_reply
from curr_reft.improve.rubric import JudgePrompt, load_rubric
from curr_reft.improve.verdict_cache import Entry

__all__ = ["EndpointJudge", "require_key"]

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds of back-off
PATIENCE = 600.0  # seconds a server may ask us to wait
ASKED_TWICE = 2  # an unusable reply is asked for once more: at temperature 0 a third differs no more
GONE = 20  # items in a row without a reply, after all their tries: the server is gone
NEVER_THERE = 3  # the same before the first reply: the address, the model or the request is wrong
NO_VERDICT = 3  # items in a row whose replies hold no verdict, before the first one: the judge does not keep the form
NEWS = 10.0  # seconds between lines of progress


RESUME = "put it right and repeat the command (a run: with --resume), which goes on from there"


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


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What came of one candidate."""

    key: bytes
    entry: Entry
    is_reply: bool = False  # the server answered, whether or not that can be read
    reached_server: bool = True
    doubt: Literal["settings", "address"] | None = None


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
        self.unanswered: list[_Asked] = []  # in a row, not kept before another item was answered
        self.answered = False
        # A verdict of an earlier call shows that this judge keeps the form.
        self.has_verdict = self.was_judged = any(entry.failure is None for entry in asking.known.values())
        self.unreadable: list[Entry] = []  # before the first verdict
        self.told = time.monotonic()

    def carry_out(self) -> None:
        """Ask all that is missing. Raises JudgeError when judging stops."""
        missing = list(self.asking.missing.items())
        self._announce()
        if not missing:
            return
        self.client = Client(self.config)
        try:
            # One at a time until it is known whether the server takes a schema, and whether its replies can be read.
            while missing and (self.with_schema is None or not self.has_verdict) and not self.stopped.is_set():
                self._item(*missing.pop(0))
            self._together(missing)
        finally:
            self.client.close()
        self._settle_doubt()
        if self.why is not None:
            raise self.why
        for each in self.unanswered:
            self.keep(each.key, each.entry)

    def _settle_doubt(self) -> None:
        """Stop where the last items failed in a way that may be the request's fault, and nothing shows that it is not:
        a reply in this call or, for all settings but the address, a verdict of an earlier one."""
        allowed = {None} if not self.was_judged else {None, "settings"}
        doubtful = [each for each in self.unanswered if each.doubt not in allowed]
        if doubtful and not self.answered:
            self._stop(f"no answer got a reply; {doubtful[-1].entry.failure}")

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
            asked = self._ask(key, prompt)
        except _StoppedError:
            return
        except BaseException:
            self.stopped.set()
            raise
        with self.lock:
            kept = [asked]
            if asked.is_reply:
                self.answered = True
                kept, self.unanswered = [*self.unanswered, asked], []
            elif asked.reached_server:
                kept = []
                self.unanswered.append(asked)
                if len(self.unanswered) >= (GONE if self.answered else NEVER_THERE):
                    self._stop(f"{len(self.unanswered)} answers in a row got no reply; {asked.entry.failure}")
        for each in kept:
            self.keep(each.key, each.entry)
        if asked.is_reply:
            self._note_verdict(asked.entry)
        self._tell()

    def _note_verdict(self, entry: Entry) -> None:
        """Stop where no reply can be read: every one is paid for."""
        with self.lock:
            if entry.failure is None or self.has_verdict:
                self.has_verdict = True
                return
            self.unreadable.append(entry)
            if len(self.unreadable) < NO_VERDICT:
                return
        first = self.unreadable[0]
        self._stop(
            f"the replies to {NO_VERDICT} answers in a row hold no verdict, and none before did ({first.failure}). The "
            f"first reply: {quoted(first.reply)}",
            way=RETRY,
        )

    def _tell(self) -> None:
        with self.lock:
            if time.monotonic() - self.told < NEWS:
                return
            self.told = time.monotonic()
        done = list(self.asking.entries.values())
        failed = sum(entry.failure is not None for entry in done)
        cost = f", {self.budget.spent:.2f} spent" if self.config.prices is not None else ""
        self.say(f"judged {len(done)} of {len(self.asking.missing)}, {failed} without a verdict{cost}")

    def _ask(self, key: bytes, prompt: JudgePrompt) -> "_Asked":
        """Return the verdict or the failure of one candidate. Raises _StoppedError."""
        config = self.config
        try:
            images = [data_url(image, config.image_max_pixels, config.image_max_bytes) for image in prompt.images]
            estimate = self._estimate(prompt)
        except DataError as error:
            return _Asked(key=key, entry=Entry(scores={}, total=None, failure=f"image: {error}"), reached_server=False)
        used = [0, 0]
        tries = unusable = 0
        while True:
            outcome = self._send(prompt, images, estimate, used)
            if isinstance(outcome, Trouble):
                tries += 1
                if outcome.kind == "stop":
                    self._stop(outcome.reason)
                    raise _StoppedError
                if outcome.kind == "again" and tries < config.attempts:
                    self._back_off(tries, outcome)
                    continue
                failure = outcome.reason
                if outcome.kind == "again":
                    failure = f"no reply after {tries} tries: {failure}"
                elif outcome.status is not None:
                    failure = f"refused by the server: {failure}"
                return _Asked(key=key, entry=self._entry(used, failure=failure), doubt=outcome.doubt)
            try:
                return _Asked(key=key, entry=self._verdict(outcome, used), is_reply=True)
            except UnusableReplyError as error:
                unusable += 1
                if unusable >= ASKED_TWICE or outcome.refusal is not None:
                    reply = excerpt(outcome.text or outcome.refusal or "", self.client.redact)
                    return _Asked(key=key, entry=self._entry(used, failure=str(error), reply=reply), is_reply=True)

    def _verdict(self, reply: Reply, used: Sequence[int]) -> Entry:
        if reply.refusal is not None or reply.finish == "content_filter":
            raise UnusableReplyError(f"refusal: {self.client.clean(reply.refusal or 'the filter of the server')}")
        if reply.finish in ("length", "max_tokens", "model_length"):
            raise UnusableReplyError(f"cut by length: the reply has more than max_tokens {self.config.max_tokens}")
        scores = read_reply(reply.text, self.client.redact)
        return self._entry(used, scores=scores.criteria, total=scores.total, comment=self.client.clean(scores.comment))

    def _entry(
        self,
        used: Sequence[int],
        *,
        scores: Mapping[str, float] | None = None,
        total: float | None = None,
        comment: str = "",
        failure: str | None = None,
        reply: str = "",
    ) -> Entry:
        return Entry(
            reply=reply,
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

    def _stop(self, reason: str, way: str = RESUME) -> None:
        """Nothing new begins; the first reason is the one that is reported."""
        if self.why is None:
            address = self.client.redact(self.config.base_url)
            self.why = JudgeError(f"judging stopped at {address}: {reason}. What was judged is kept; {way}")
        self.stopped.set()
