"""One request to an OpenAI-compatible server, and what came of it. Nothing is tried again here.

The key is in the client and in the header that it sends, nowhere else: text of a server or a library is cleaned of it
(``redaction.py``) before it is cut or becomes part of a message, and no exception of the library travels on, as its
chain could hold the request.

A failure is one of three kinds. *again*: the server is busy, silent or broken. *item*: this one question cannot be
asked. *stop*: the request itself is wrong (key, address, model, certificate, header), as it would be for every item.
Some failures leave open whose they are (``doubt``).
"""

import asyncio
import importlib.util
import json
import logging
import os
import re
import ssl
import threading
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from curr_reft.errors import UsageError
from curr_reft.files import human_size
from curr_reft.improve.config import EndpointConfig
from curr_reft.improve.judges.redaction import Redactor

log = logging.getLogger(__name__)

NO_KEY = "none"  # sent to servers that need no key, as the protocol wants a header; no key of the environment is
REPLY_LIMIT = 4 * 2**20  # bytes of a reply, after decompression; one of 100,000 tokens has a tenth of it
_READ_AT_MOST = 20_000  # characters of a text that are looked through for a message
_AGAIN = {408, 409, 425, 429}  # and 5xx
_STOP = {401, 402, 404, 405, 406, 407, 410, 411, 415, 421, 426, 428, 431}
# What servers write where the status leaves open whose fault it is.
_OF_THE_ITEM = re.compile(
    r"context.?(length|window)|too (long|large|many (tokens|images))|maximum.{0,20}(length|tokens)|string_above_max"
    r"|moderation|content.?(policy|filter)|flagged|safety|invalid.?image|image.{0,40}(invalid|unsupported|cannot|could)",
    re.IGNORECASE | re.DOTALL,
)
_OF_THE_REQUEST = re.compile(
    r"api.?key|unauthori[sz]ed|authenticat|permission|model_not_found|(no such|unknown) model"
    r"|model.{0,80}(not found|not exist|not supported)"
    r"|(unsupported|unknown|unrecognized).{0,3}(parameter|value|argument)",
    re.IGNORECASE | re.DOTALL,
)
_OF_SETTINGS = re.compile(r"max_(completion_)?tokens|temperature|response_format", re.IGNORECASE)


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
    """No reply, and why."""

    kind: Literal["again", "item", "stop"]
    reason: str
    # Where it may be the request's fault all the same: of its settings, or of its address. Only a reply to another item
    # shows that it is not.
    doubt: Literal["settings", "address"] | None = None
    retry_after: float | None = None  # seconds the server asks for
    status: int | None = None


class _ReceivedError(Exception):
    """Carries a whole response past the library, which would read one of any size, decompressed in any charset."""

    def __init__(self, status: int, headers: Mapping[str, str], body: str) -> None:
        self.status, self.headers, self.body = status, headers, body
        super().__init__()


class _TooLargeError(Exception):
    """The response is larger than ``REPLY_LIMIT``, or compressed in a way that was not asked for."""


def require_key(config: EndpointConfig) -> str:
    """Return the key from the environment. Raises UsageError when it is missing or cannot be sent, without showing it,
    or when the client is not installed."""
    if importlib.util.find_spec("openai") is None:
        raise UsageError(
            "self_improvement.judge.kind endpoint needs the package openai: pip install 'curr-reft[judge]'"
        )
    if config.api_key_env is None:
        return NO_KEY
    where = f"self_improvement.judge.endpoint.api_key_env: the environment variable {config.api_key_env}"
    key = os.environ.get(config.api_key_env, "")
    if not key:
        raise UsageError(f"{where} is not set; export it, or set api_key_env to null for a server that needs no key")
    flaw = _flaw(key)
    if flaw is not None:
        raise UsageError(
            f"{where} {flaw}, which no HTTP header can carry; nothing was sent. Export the key alone, without quotes, "
            f"blanks or line breaks: export {config.api_key_env}=\"$(tr -d '[:space:]' < FILE)\""
        )
    return key


def _flaw(key: str) -> str | None:
    """What keeps ``key`` out of a header, in words that do not repeat any of it; None: nothing."""
    if key != key.strip():
        return "begins or ends with a blank or a line break"
    if any(each in key for each in "\r\n"):
        return "holds a line break"
    if any(each.isspace() for each in key):
        return "holds a blank"
    if not key.isascii():
        return "holds a character that is not ASCII"
    if not key.isprintable():
        return "holds a control character"
    return None


class Client:
    """Asks one server. Safe to use from many threads."""

    def __init__(self, config: EndpointConfig) -> None:
        key = require_key(config)
        self.redact = Redactor(None if key == NO_KEY else key)
        import openai  # half a second, and only who has a server to ask needs it

        self._openai = openai
        self._config = config
        try:
            self._client = openai.AsyncOpenAI(
                api_key=key,
                base_url=config.base_url,
                timeout=config.timeout,
                max_retries=0,  # we know our limits, our budget and when to stop
                # A key goes nowhere but to this address.
                http_client=openai.DefaultAsyncHttpxClient(
                    follow_redirects=False, event_hooks={"response": [_receive]}
                ),
                default_headers={"Accept-Encoding": "gzip"},  # what _receive undoes, within a limit
            )
        except Exception as error:
            words = self.clean(f"{type(error).__name__}: {error}")
            raise UsageError(f"self_improvement.judge.endpoint.base_url {config.base_url}: {words}") from None
        if key == NO_KEY:  # nor do the account's names, which the library takes from the environment
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
        try:
            text.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which no JSON can carry
            return Trouble(kind="item", reason="cannot be sent: it holds characters that are not Unicode text")
        try:
            request = self._client.chat.completions.with_raw_response.create(
                model=config.model, messages=messages, **options
            )
            within = asyncio.wait_for(request, config.timeout)
            asyncio.run_coroutine_threadsafe(within, self._loop).result()
        except Exception as error:
            return self._outcome(error)
        return Trouble(kind="stop", reason="the client openai of this version cannot be used; install another")

    def clean(self, text: str) -> str:
        """``text`` without the key, printable, and short enough for a message."""
        text = " ".join(self.redact(text[:_READ_AT_MOST]).split())
        text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[:301])
        return text if len(text) <= 300 else text[:297] + "..."

    def _outcome(self, error: Exception) -> Reply | Trouble:
        """What came of a request, by the exception that ended it."""
        causes = [error, *_causes(error)]
        received = next((each for each in causes if isinstance(each, _ReceivedError)), None)
        if received is not None:
            if 200 <= received.status < 300:
                return self._read(received.body)
            return self._status(received.status, received.headers, received.body)
        too_large = next((each for each in causes if isinstance(each, _TooLargeError)), None)
        if too_large is not None:
            return Trouble(kind="item", reason=self.clean(f"too large: {too_large}"))
        if any(isinstance(each, zlib.error) for each in causes):
            return Trouble(kind="again", reason="not a chat completion: the reply cannot be decompressed")
        if isinstance(error, TimeoutError | self._openai.APITimeoutError):
            return Trouble(kind="again", reason=f"time-out: no whole reply within {self._config.timeout:g} s")
        words = self.clean(f"{causes[1] if len(causes) > 1 else error}" or type(error).__name__)
        if any(isinstance(each, ssl.SSLCertVerificationError) for each in causes):
            return Trouble(kind="stop", reason=f"no connection: {words}; correct base_url, or set SSL_CERT_FILE")
        if not isinstance(error, self._openai.APIConnectionError) or _is_unsendable(causes):
            return Trouble(kind="stop", reason=f"the request cannot be sent: {type(causes[-1]).__name__}: {words}")
        return Trouble(kind="again", doubt="address", reason=f"no connection: {words}")

    def _status(self, status: int, headers: Mapping[str, str], body: str) -> Trouble:
        message = _message(body)
        reason = f"HTTP {status}: {self.clean(message)}"
        if 300 <= status < 400:
            where = self.clean(headers.get("location", "another address"))
            return Trouble(kind="stop", status=status, reason=f"{reason}: it redirects to {where}; correct base_url")
        if status == 429 and "insufficient_quota" in body:
            return Trouble(kind="stop", status=status, reason=f"{reason}: the account has no credit left")
        if status in _AGAIN or status >= 500:
            return Trouble(kind="again", status=status, reason=reason, retry_after=retry_after(headers))
        said = message[:1000]  # some servers repeat the question behind it
        if status in _STOP or (status != 413 and _OF_THE_REQUEST.search(said)):
            return Trouble(kind="stop", status=status, reason=reason)
        if status in (413, 451) or (_OF_THE_ITEM.search(said) and not _OF_SETTINGS.search(said)):
            return Trouble(kind="item", status=status, reason=reason)
        if status == 403:
            return Trouble(kind="stop", status=status, reason=reason)
        return Trouble(kind="item", status=status, reason=reason, doubt="settings")

    def _read(self, body: str) -> Reply | Trouble:
        try:
            answer = json.loads(body)
            (choice, *_) = answer["choices"]
            message = choice["message"]
            text, refusal = _text_of(message.get("content"))
            refusal = message.get("refusal") or refusal
            usage = answer.get("usage") or {}
            counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
            finish = choice.get("finish_reason")
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return Trouble(kind="again", reason=f"not a chat completion: {self.clean(body)[:100]!r}")
        prompt_tokens, completion_tokens = (
            count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 10**9 else None
            for count in counts
        )
        return Reply(
            text=text,
            finish=str(finish),
            refusal=refusal if isinstance(refusal, str) and refusal else None,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )


async def _receive(response: Any) -> None:
    """Read a response of httpx, at most ``REPLY_LIMIT`` bytes of it before and after decompression, and raise it."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip"):
        raise _TooLargeError(f"the reply is compressed by {encoding[:20]!r}, which was not asked for")
    inflate = None if encoding in ("identity", "") else zlib.decompressobj(zlib.MAX_WBITS | 16)  # gzip
    body, received = bytearray(), 0
    async for chunk in response.aiter_raw():
        received += len(chunk)
        body += chunk if inflate is None else inflate.decompress(chunk, REPLY_LIMIT + 1 - len(body))
        if max(received, len(body)) > REPLY_LIMIT:
            raise _TooLargeError(f"the reply has more than {human_size(REPLY_LIMIT)}")
    # JSON is UTF-8, whatever charset a header names.
    raise _ReceivedError(response.status_code, response.headers, body.decode("utf-8-sig", errors="replace"))


def _causes(error: BaseException) -> list[BaseException]:
    """The exceptions that led to ``error``, the first one last."""
    found: list[BaseException] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def _is_unsendable(causes: list[BaseException]) -> bool:
    """Whether the library refused the request before it was sent: its address, its headers."""
    names = {"InvalidURL", "UnsupportedProtocol", "LocalProtocolError", "UnicodeError", "UnicodeEncodeError"}
    return any(type(each).__name__ in names for each in causes)


def _text_of(content: Any) -> tuple[str, str | None]:
    """The text of a message's content, and the refusal that it holds: text, or a list of parts, of which those that are
    thoughts are left out. Raises TypeError for anything else."""
    if content is None or isinstance(content, str):
        return content or "", None
    if not isinstance(content, list):
        raise TypeError
    texts: list[str] = []
    refusal: str | None = None
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif part.get("type", "text") in ("text", "output_text"):
            text = part["text"]
            texts.append(text if isinstance(text, str) else text["value"])
        elif part["type"] == "refusal":
            refusal = str(part["refusal"])
    return "".join(texts), refusal


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
    """What a server says in an error: the code and the message of OpenAI's form, else the body."""
    try:
        error = json.loads(body)["error"]
        if not isinstance(error, dict):
            return str(error)
        code = error.get("code")
        return f"{error['message']} ({code})" if isinstance(code, str) else str(error["message"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return body
