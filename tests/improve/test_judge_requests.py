"""A judge behind a real server: whose fault a failure is, what a reply may be and hold, and a key that goes nowhere."""

import base64
import gzip
import json
import tracemalloc
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from asking_judges import candidate, endpoint, judge
from judge_server import GOOD, Answer, completion, judge_server

from curr_reft.errors import CurrReftError, JudgeError, UsageError
from curr_reft.improve.judges import client as client_module
from curr_reft.improve.judges import endpoint as endpoint_module
from curr_reft.improve.judges import require_judge
from curr_reft.improve.judges.redaction import LEAST

G = json.dumps(GOOD)
KEY = "sk-proj-Zt7/qPv3=Lw9+Xb2Rk5Ty8Uj1Hn4Gm6Fd0Sa"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "FIRST_WAIT", 0.01)


def error(status: int, message: str, code: str | None = None) -> Answer:
    return Answer(status=status, body={"error": {"message": message, "code": code}})


# What a message of the server may be


DRAFT = json.dumps({**GOOD, "accuracy": 99, "total": 99})
MESSAGES: dict[str, Any] = {
    "a part": completion([{"type": "text", "text": G}]),
    "parts of one text": completion([{"type": "text", "text": G[:20]}, {"type": "text", "text": G[20:]}]),
    "a part without a type": completion([{"text": G}]),
    "texts": completion([G]),
    "a part of the Responses API": completion([{"type": "output_text", "text": G}]),
    "a part with a value": completion([{"type": "text", "text": {"value": G}}]),
    "a part that is thought": completion(
        [{"type": "thinking", "thinking": [{"type": "text", "text": DRAFT}]}, {"type": "text", "text": G}]
    ),
    "a thought over two parts": completion(
        [{"type": "text", "text": f"<think>{DRAFT}"}, {"type": "text", "text": f"</think>{G}"}]
    ),
    "a thought beside the content": completion(G, reasoning_content=DRAFT, reasoning=DRAFT),
    "no opening tag": completion(f"{DRAFT}</think>{G}"),
    "an empty refusal": completion(G, refusal=""),
    "with a mark of its encoding": "\ufeff" + json.dumps(completion(G)),
}


@pytest.mark.parametrize("body", MESSAGES.values(), ids=list(MESSAGES))
def test_messages_that_hold_a_verdict(body: Any, tmp_path: Path) -> None:
    with judge_server(lambda *_: Answer(body=body)) as server:
        (verdict,) = judge(endpoint(server), [candidate(0)], tmp_path).verdicts
    assert (verdict.total, verdict.failure) == (91.5, None)


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (completion(None, reasoning_content=DRAFT), "empty reply"),
        (completion("", reasoning=DRAFT), "empty reply"),
        (completion([]), "empty reply"),
        (completion([{"type": "thinking", "thinking": DRAFT}]), "empty reply"),
        (completion([{"type": "image_url", "image_url": {}}]), "empty reply"),
        (completion([{"type": "refusal", "refusal": "I may not."}]), "refusal: I may not."),
        (completion([{"type": "text", "text": f"<think>{DRAFT}"}]), "unfinished thought"),
        (completion(G, finish="max_tokens"), "cut by length"),
        (completion({"accuracy": 90}), "no reply after 1 tries: not a chat completion"),
        (completion([{"type": "text", "text": 3}]), "no reply after 1 tries: not a chat completion"),
        (completion([None]), "no reply after 1 tries: not a chat completion"),
    ],
    ids=str,
)
def test_messages_without_one(body: Any, failure: str, tmp_path: Path) -> None:
    with judge_server(lambda item, *_: Answer(body=body) if item == "1" else Answer()) as server:
        verdicts = judge(endpoint(server, attempts=1), [candidate(0), candidate(1)], tmp_path).verdicts
    assert verdicts[0].failure is None
    assert str(verdicts[1].failure).startswith(failure)


# Whose fault it is


REQUEST: dict[str, Answer] = {
    "no key": error(401, "no key"),
    "a key of another project": error(403, "Project does not have access"),
    "a key in a 400": error(400, "API key not valid. Please pass a valid API key.", "API_KEY_INVALID"),
    "no model": error(404, "The model m does not exist", "model_not_found"),
    "no model in a 400": error(400, "model 'm' not found"),
    "a parameter": error(400, "Unsupported parameter: 'max_tokens' is not supported with this model."),
    "a limit of the model": error(400, "max_tokens is too large: 400. This model supports at most 100"),
    "anything": error(422, "bad request"),
    "another method": Answer(status=405, body="no"),
}


@pytest.mark.parametrize("answer", REQUEST.values(), ids=list(REQUEST))
@pytest.mark.parametrize("count", [1, 2, 6])
def test_a_failure_of_the_request_is_no_verdict_on_an_item(answer: Answer, count: int, tmp_path: Path) -> None:
    """However few answers there are: with the request put right the same command asks for all."""
    wanted = [candidate(number) for number in range(count)]
    with judge_server(lambda *_: answer) as server:
        with pytest.raises(JudgeError, match=f"HTTP {answer.status}"):
            judge(endpoint(server), wanted, tmp_path)
        server.rule = lambda *_: Answer()
        server.requests.clear()
        judged = judge(endpoint(server), wanted, tmp_path)
    assert [verdict.total for verdict in judged.verdicts] == [91.5] * count
    assert len(server.requests) == count


def test_a_key_that_is_revoked_stops_it_later_too(tmp_path: Path) -> None:
    wanted = [candidate(number) for number in range(6)]
    for status in (401, 403):
        with judge_server(lambda item, *_, s=status: Answer() if item in "012" else error(s, "revoked")) as server:
            with pytest.raises(JudgeError, match=f"HTTP {status}: revoked"):
                judge(endpoint(server, concurrency=1), wanted, tmp_path / str(status))
            server.rule = lambda *_: Answer()
            judged = judge(endpoint(server), wanted, tmp_path / str(status))
        assert [verdict.failure for verdict in judged.verdicts] == [None] * 6


@pytest.mark.parametrize(
    "answer",
    [
        error(400, "This model's maximum context length is 8192 tokens.", "context_length_exceeded"),
        error(403, "Your input was flagged by moderation"),
        error(400, "Invalid image: it could not be decoded", "invalid_image_format"),
        Answer(status=413, body="Request Entity Too Large"),
    ],
    ids=["long", "flagged", "image", "large"],
)
def test_a_failure_of_an_item_is_its_own(answer: Answer, tmp_path: Path) -> None:
    """Where it is the last that is left to judge too, so that no run waits for it for ever."""
    with judge_server(lambda item, *_: answer if item == "1" else Answer()) as server:
        judge(endpoint(server), [candidate(0)], tmp_path)
        judged = judge(endpoint(server), [candidate(0), candidate(1)], tmp_path)
        asked = len(server.requests)
        again = judge(endpoint(server), [candidate(0), candidate(1)], tmp_path)
    assert str(judged.verdicts[1].failure).startswith(f"refused by the server: HTTP {answer.status}")
    assert again.verdicts == judged.verdicts
    assert len(server.requests) == asked


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://HOST/v1", "no connection"),
        ("http://127.0.0.1:1/v1", "no connection"),
        ("http://no-such-host.invalid/v1", "no connection"),
        ("http://\u0661.\u2488/v1", "endpoint.base_url http://.*: InvalidURL"),
    ],
    ids=["TLS", "port", "name", "odd"],
)
def test_a_wrong_address_is_no_verdict_on_an_item(url: str, message: str, tmp_path: Path) -> None:
    with judge_server() as server:
        host = urllib.parse.urlsplit(server.url).netloc
        config = endpoint(url.replace("HOST", host), attempts=1)
        with pytest.raises(CurrReftError, match=message):
            judge(config, [candidate(0)], tmp_path)
        assert judge(endpoint(server), [candidate(0)], tmp_path).verdicts[0].total == 91.5


@pytest.mark.parametrize(
    "url", ["http://h:99999/v1", "http://h:x/v1", "http://h:0/v1", "http://ex ample/v1", "http://h\n/v1"]
)
def test_an_address_that_is_none_is_refused_with_the_recipe(url: str) -> None:
    with pytest.raises(ValueError, match=r"[Pp]ort|without blanks|http or https"):
        endpoint(url)


def test_an_item_that_is_no_text_does_not_speak_for_the_server(tmp_path: Path) -> None:
    """Half of a surrogate pair is the item's own; the wrong key after it is found all the same."""
    wanted = [candidate("a", text="\ud800 <answer> a </answer>"), candidate(1)]
    with judge_server(lambda *_: error(403, "no")) as server, pytest.raises(JudgeError, match="HTTP 403: no"):
        judge(endpoint(server), wanted, tmp_path)


# The size of a reply


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=b" " * 2**16, times=600),
        Answer(body=gzip.compress(bytes(40 * 2**20)), headers=(("Content-Encoding", "gzip"),)),
        Answer(body=gzip.compress(bytes(40 * 2**20)), headers=(("Content-Encoding", "gzip"),), status=400),
        Answer(body=b"\x00" * 2**16, headers=(("Content-Encoding", "br"),), times=600),
        Answer(body=gzip.compress(gzip.compress(b" " * 2**24)), headers=(("Content-Encoding", "gzip, gzip"),)),
    ],
    ids=["plain", "gzip", "an error", "not asked for", "gzip twice"],
)
def test_a_reply_beyond_the_limit_is_a_failure_of_the_item(
    answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 MB of it, after decompression; no more than some 64 kB beyond the limit of 1 MiB are ever held."""
    monkeypatch.setattr(client_module, "REPLY_LIMIT", 2**20)
    with judge_server(lambda item, *_: answer if item == "1" else Answer()) as server:
        judge(endpoint(server), [candidate(0)], tmp_path)
        tracemalloc.start()
        try:
            judged = judge(endpoint(server), [candidate(0), candidate(1), candidate(2)], tmp_path)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert most < 8 * 2**20
    assert str(judged.verdicts[1].failure).startswith("too large: the reply ")
    assert judged.verdicts[2].failure is None
    assert server.tries["1"] == 1
    assert judged.account["failures"] == {"too large": 1}


@pytest.mark.parametrize("charset", ["utf-8", "utf-16", "hex", "no-such", "idna", "undefined"])
@pytest.mark.parametrize("status", [200, 400])
def test_replies_are_read_compressed_and_in_any_charset(charset: str, status: int, tmp_path: Path) -> None:
    body = gzip.compress(json.dumps(completion(G) if status == 200 else {"error": "too long"}).encode())
    headers = (("Content-Encoding", "gzip"), ("Content-Type", f"application/json; charset={charset}"))
    answer = Answer(body=body, headers=headers, status=status)
    with judge_server(lambda item, *_: answer if item == "1" else Answer()) as server:
        verdict = judge(endpoint(server), [candidate(0), candidate(1)], tmp_path).verdicts[1]
    assert verdict.failure == (None if status == 200 else "refused by the server: HTTP 400: too long")


def test_a_body_that_is_not_what_its_header_says_is_asked_for_again(tmp_path: Path) -> None:
    bad = Answer(body=b"no gzip", headers=(("Content-Encoding", "gzip"),))
    with judge_server(lambda _, number, __: bad if number == 0 else Answer()) as server:
        assert judge(endpoint(server), [candidate(0)], tmp_path).verdicts[0].failure is None


# Keys


@pytest.mark.parametrize(
    ("key", "flaw"),
    [
        (f"{KEY}\n", "begins or ends with a blank or a line break"),
        (f" {KEY}", "begins or ends with a blank"),
        (f"{KEY[:20]}\n{KEY[20:]}", "holds a line break"),
        (f"{KEY}\r\nX-Other: 1", "holds a line break"),
        (f"Bearer {KEY}", "holds a blank"),
        (f"{KEY[:20]}\u00e9{KEY[20:]}", "holds a character that is not ASCII"),
        (f"{KEY[:20]}\u200b{KEY[20:]}", "holds a character that is not ASCII"),
        (f"{KEY[:20]}\x07{KEY[20:]}", "holds a control character"),
        ("", "is not set"),
        (" \n", "begins or ends with a blank"),
    ],
    ids=lambda value: repr(value)[-20:],
)
def test_a_key_that_no_header_carries_is_refused_before_anything_is_sent(
    key: str, flaw: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", key)
    with judge_server() as server:
        config = endpoint(server, api_key_env="JUDGE_KEY")
        for ask in (lambda: require_judge(config), lambda: judge(config, [candidate(0)], tmp_path)):
            with pytest.raises(UsageError, match=flaw) as refused:
                ask()
            assert not any(KEY[i : i + LEAST] in str(refused.value) for i in range(len(KEY) - LEAST + 1))
        assert server.requests == []
        monkeypatch.setenv("JUDGE_KEY", KEY)
        assert judge(config, [candidate(0)], tmp_path).verdicts[0].total == 91.5


WRITTEN = {
    "as it is": str,
    "repr": repr,
    "json": json.dumps,
    "url": lambda key: urllib.parse.quote(key, safe=""),
    "base64": lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
}


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("length", [20, 200])
@pytest.mark.parametrize("place", [0, 60, 190, 290])
def test_a_key_is_nowhere_wherever_text_is_cut(
    form: str,
    length: int,
    place: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each kind of text that is kept or shown is cut at another length: the key begins before, at and behind it."""
    key = (KEY * 5)[:length]
    monkeypatch.setenv("JUDGE_KEY", key)
    said = "." * place + WRITTEN[form](key)
    answers = {
        "1": Answer(body=completion(said)),
        "2": Answer(body=completion(json.dumps({**GOOD, "total": said}))),
        "3": Answer(body=completion(json.dumps({**GOOD, "comment": said}))),
        "4": Answer(body=completion(None, refusal=said)),
        "5": Answer(body=completion(json.dumps({**GOOD, said: 1, f"{said} ": 2}))),
        "6": error(400, f"too long {said}"),
        "7": Answer(body=said),
    }
    with judge_server(lambda item, *_: answers.get(item, Answer())) as server:
        config = endpoint(server, api_key_env="JUDGE_KEY", attempts=1, concurrency=1)
        found = judge(config, [candidate(number) for number in range(8)], tmp_path)
        server.rule = lambda *_: error(401, said)
        with pytest.raises(JudgeError) as stopped:
            judge(config, [candidate(9)], tmp_path)
    assert found.account["verdicts"] == 2
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir()).decode(errors="replace")
    texts = [kept, *capsys.readouterr(), str(stopped.value), *(json.dumps(each.to_dict()) for each in found.verdicts)]
    written = WRITTEN[form](key).strip("'\"")[10 if form == "base64" else 0 :]  # that of "Bearer" is no secret
    secret = {each[i : i + 8].lower() for each in (key, written) for i in range(len(each) - 7)}
    for text in texts:
        lower = text.replace("\\", "").lower()
        assert not any(lower[i : i + 8] in secret for i in range(len(lower) - 7))
