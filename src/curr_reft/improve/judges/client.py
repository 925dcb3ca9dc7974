"""One request to an OpenAI-compatible server, and what came of it. Nothing is tried again here.

The key is in the client and in the header that it sends, nowhere else: whatever a server or a library says is cleaned
of it before it becomes part of a message, and no exception of the library travels on, as its chain could hold the
request.
"""

import asyncio
import importlib.util
import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from curr_reft.errors import UsageError
from curr_reft.improve.config import EndpointConfig

log = logging.getLogger(__name__)

NO_KEY = "none"  # sent to servers that need no key, as the protocol wants a header; no key of the environment is
_AGAIN = {408, 409, 425, 429}  # and 5xx
_STOP = {401, 402, 403, 404, 405}


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The server answered. Tokens are its own count, None where it gives none."""

    text: str
    finish: str
    refusal: str | None
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """No answer. ``kind`` says what follows: try again, this item cannot be asked, or nothing can."""

    kind: str  # again, item, stop
    reason: str
    retry_after: float | None = None  # seconds the server asks for
    status: int | None = None


def require_key(config: EndpointConfig) -> str:
    """The key from the environment. Raises UsageError when it is not there, or the client is not installed."""
    if importlib.util.find_spec("openai") is None:
        raise UsageError(
            "self_improvement.judge.kind endpoint needs the package openai: pip install 'curr-reft[judge]'"
        )
    if config.api_key_env is None:
        return NO_KEY
    key = os.environ.get(config.api_key_env, "").strip()
    if not key:
        raise UsageError(
            f"self_improvement.judge.endpoint.api_key_env: the environment variable {config.api_key_env} is not set; "
            "export it, or set api_key_env to null for a server that needs no key"
        )
    return key


class Client:
    """Asks one server. Safe to use from many threads."""

    def __init__(self, config: EndpointConfig) -> None:
        self._key = require_key(config)
        import openai  # half a second, and only who has a server to ask needs it

        self._openai = openai
        self._config = config
        self._client = openai.AsyncOpenAI(
            api_key=self._key,
            base_url=config.base_url,
            timeout=config.timeout,
            max_retries=0,  # we know our limits, our budget and when to stop
            # A key goes nowhere but to this address.
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
        )
        if self._key == NO_KEY:  # nor do the account's names, which the library takes from the environment
            self._client.organization = self._client.project = None
        # The library's own limit is one of silence: a server that sends a blank every now and then, as some do while a
        # request waits in their queue, would never meet it. A loop can end a request at any point.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judge-requests", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close its connections."""
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def ask(self, text: str, images: list[str], schema: Mapping[str, Any] | None) -> Reply | Trouble:
        """One user turn with ``images`` (data URLs), answered; under a JSON schema if one is given."""
        config = self._config
        content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in images]
        messages: list[Any] = [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]
        options: dict[str, Any] = {config.token_limit: config.max_tokens}
        if config.temperature is not None:
            options["temperature"] = config.temperature
        if schema is not None:
            options["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "verdict", "strict": True, "schema": dict(schema)},
            }
        openai = self._openai
        request = self._client.chat.completions.with_raw_response.create(
            model=config.model, messages=messages, **options
        )
        try:
            within = asyncio.wait_for(request, config.timeout)
            body = asyncio.run_coroutine_threadsafe(within, self._loop).result().http_response.text
        except (TimeoutError, openai.APITimeoutError):
            return Trouble(kind="again", reason=f"time-out: no whole reply within {config.timeout:g} s")
        except openai.APIStatusError as error:
            return self._status(error.status_code, error.response.headers, error.response.text)
        except openai.APIConnectionError as error:
            return Trouble(kind="again", reason=self.clean(f"no connection: {error.__cause__ or error}"))
        except UnicodeEncodeError:  # half of a surrogate pair, which no JSON can carry
            return Trouble(kind="item", reason="cannot be sent: it holds characters that are not Unicode text")
        return self._read(body)

    def clean(self, text: str) -> str:
        """``text`` without the key, short enough for a message."""
        if self._key != NO_KEY:
            text = text.replace(self._key, "[key]")
        text = " ".join(text.split())
        return text if len(text) <= 300 else text[:297] + "..."

    def _status(self, status: int, headers: Mapping[str, str], body: str) -> Trouble:
        said = self.clean(_message(body))
        reason = f"HTTP {status}: {said}"
        if 300 <= status < 400:
            where = self.clean(headers.get("location", "another address"))
            return Trouble(kind="stop", status=status, reason=f"{reason}: it redirects to {where}; correct base_url")
        if status == 429 and "insufficient_quota" in body:
            return Trouble(kind="stop", status=status, reason=f"{reason}: the account has no credit left")
        if status in _AGAIN or status >= 500:
            return Trouble(kind="again", status=status, reason=reason, retry_after=retry_after(headers))
        return Trouble(kind="stop" if status in _STOP else "item", status=status, reason=reason)

    def _read(self, body: str) -> Reply | Trouble:
        try:
            answer = json.loads(body)
            (choice, *_) = answer["choices"]
            message = choice["message"]
            text, refusal = message.get("content"), message.get("refusal")
            usage = answer.get("usage") or {}
            counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
            finish = choice.get("finish_reason")
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return Trouble(kind="again", reason=self.clean(f"not a chat completion: {body[:100]!r}"))
        prompt_tokens, completion_tokens = (
            count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 10**9 else None
            for count in counts
        )
        return Reply(
            text=text if isinstance(text, str) else "",
            finish=str(finish),
            refusal=refusal if isinstance(refusal, str) and refusal else None,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait (RFC 9110, section 10.2.3: seconds or a date; OpenAI also in milliseconds)."""

    milliseconds, text = headers.get("retry-after-ms"), headers.get("retry-after", "")
    for value, unit in ((milliseconds, 1000.0), (text, 1.0)):
        try:
            seconds = float(value or "nan") / unit
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _message(body: str) -> str:
    """What a server says in an error: the message of OpenAI's form, else the beginning of the body."""
    try:
        answer = json.loads(body)
        error = answer["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, RecursionError, KeyError, TypeError):
        return body[:200]
