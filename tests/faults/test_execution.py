"""T10: what a model or a judge wrote is never carried out: hostile text through every reader, under an audit hook.

Grading by every task and form; computer algebra, which runs in workers and builds its expressions from text; and the
replies of judges.
"""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
HOSTILE: list[str] = json.loads(Path(__file__).with_name("hostile_answers.json").read_text(encoding="utf-8"))

# The first pass loads what is loaded once; the second is watched. "exec" and "compile" are what eval would do.
WATCH = """
import json, sys
hostile = json.loads(sys.stdin.read())
{prepare}
def pass_over():
    for text in hostile:
        {read}
pass_over()
events, watching = [], [True]
FORBIDDEN = ("open", "import", "exec", "compile", "subprocess", "socket", "os.", "ctypes", "pickle", "shutil")
def hook(event, details):
    if watching[0] and event.startswith(FORBIDDEN):
        events.append((event, str(details)[:200]))
sys.addaudithook(hook)
pass_over()
open("/dev/null").close()
watching[0] = False
print(json.dumps(events))
"""

ALGEBRA = """
from curr_reft.tasks import symbolic_worker
from curr_reft.tasks.expression import to_latex
symbolic_worker.main.__globals__["logging"].disable(symbolic_worker.logging.CRITICAL)
for pair in symbolic_worker._WARM_UP:
    symbolic_worker.verify(*pair)
def verify(text):
    for answer in (text, to_latex(text)):
        symbolic_worker._parsed.cache_clear()  # the second pass parses too
        try:
            assert not symbolic_worker.verify("2\\\\sqrt{3}", answer)
        except (TypeError, ValueError, AttributeError, RecursionError, OverflowError, NotImplementedError):
            pass  # what breaks the parser is not verified
"""

REPLIES = """
from curr_reft.improve.reply import UnusableReplyError, read_reply
def reply(text):
    verdict = json.dumps({"accuracy": text, "logic": 1, "format": 1, "fluency": 1, "total": text, "comment": text})
    for each in (text, verdict, "```json\\n" + verdict + "\\n```", "<think>" + text + "</think>" + verdict):
        try:
            read_reply(each)
        except UnusableReplyError:
            pass
        else:
            raise AssertionError(each)
"""


GRADING = f"""
sys.path.insert(0, {str(TESTS / "rewards")!r})
from test_properties import FORMS, TASKS, grade, question, say
truths = {{"detection": (1.0, 2.0, 30.0, 40.0), "dense_detection": ((1.0, 2.0, 30.0, 40.0),),
          "classification": ("dog",), "math": "isosceles", "points": "8 / (3 - 8 / 3) = 24"}}
asked = [question(task, "open", truth) for task, truth in truths.items()]
asked += [question(task, "binary", True) for task in truths]
asked += [question(task, "choice", frozenset("A")) for task in truths]
def graded(text):
    for each in asked:
        for completion in (text, say(text)):
            assert not grade(each, completion).accuracy, completion
"""


def watched(prepare: str, read: str) -> list[str]:
    """The names of the forbidden events of the watched pass, in order."""
    script = WATCH.format(prepare=textwrap.dedent(prepare), read=read)
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(HOSTILE),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [f"{event}: {details}" for event, details in json.loads(done.stdout.splitlines()[-1])]


def test_there_are_fifty() -> None:
    assert len(set(HOSTILE)) == 50


@pytest.mark.parametrize(
    ("prepare", "read"), [(GRADING, "graded(text)"), (ALGEBRA, "verify(text)"), (REPLIES, "reply(text)")]
)
def test_no_text_reaches_the_system(prepare: str, read: str) -> None:
    (alive,) = watched(prepare, read)
    assert alive.startswith("open: ('/dev/null'")  # the hook was at work, and saw nothing else


def test_the_hook_sees_what_an_evaluating_reader_would_do() -> None:
    lax = """
    def lax(text):
        try:
            eval(text)
        except BaseException:
            pass
    hostile = hostile[:3]
    """
    events = watched(lax, "lax(text)")
    assert any(event.startswith(("exec", "compile")) for event in events)
    assert any("os.system" in event for event in events)
