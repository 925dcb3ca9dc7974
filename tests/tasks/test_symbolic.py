"""Verification in workers: right, in order, killable, and gone with their parent."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curr_reft.tasks import TASKS, GradingTimeoutError, TaskOptions, VerificationError
from curr_reft.tasks.config import MathConfig, TasksConfig
from curr_reft.tasks.expression import Equality, LatexPair
from curr_reft.tasks.symbolic import POOL, verify, verify_all
from curr_reft.tasks.symbolic_pool import WorkerPool

MATH = TASKS["math"]
HANGS = LatexPair("2\\sqrt{3}", "9^{9\\cdot 9^{9}}")  # too large for time, not refused by its form


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool()
    yield pool
    pool.close()


EQUAL = [
    ("2\\sqrt{3}", "\\sqrt{12}"),
    ("2x+1", "1+2x"),
    ("\\frac{\\pi}{4}", "pi/4"),
    ("(x+1)^2", "x^2+2x+1"),
    ("y=2x", "2x=y"),
]
DIFFERENT = [("2\\sqrt{3}", "\\sqrt{3}"), ("2x+1", "2x"), ("\\frac{\\pi}{4}", "0.78"), ("10^{-7}", "2\\cdot 10^{-7}")]
NOT_MATHS = [
    ("2\\sqrt{3}", text) for text in ("\\frac{", "}{", "\\unknown{3}", "^^^", "\\sqrt", "1/0", "\\left(", "42\\mod 43")
]


@pytest.mark.parametrize(("truth", "answer"), EQUAL)
def test_equal(truth: str, answer: str) -> None:
    assert verify(truth, answer) is Equality.EQUAL


@pytest.mark.parametrize(("truth", "answer"), DIFFERENT + NOT_MATHS)
def test_different(truth: str, answer: str) -> None:
    assert verify(truth, answer) is Equality.DIFFERENT


def test_a_batch_equals_single_calls_and_keeps_the_order() -> None:
    pairs = [*EQUAL, *DIFFERENT, ("42", "42"), ("42", "17"), *EQUAL, ("B", "(B)")]
    assert verify_all(pairs, workers=2) == [verify(*pair) for pair in pairs]


numbers = st.integers(2, 99)


@settings(max_examples=40, deadline=None)
@given(numbers, numbers, numbers)
def test_expressions_equal_themselves_in_other_words(a: int, b: int, c: int) -> None:
    truth = f"{a}\\sqrt{{{b}}}+{c}"
    assert verify(truth, f"{c}+sqrt({b})*{a}") is Equality.EQUAL
    assert verify(truth, f"{c + 1}+{a}√{b}") is Equality.DIFFERENT


def test_a_hanging_pair_is_killed_and_the_others_are_answered(pool: WorkerPool) -> None:
    good = LatexPair("2\\sqrt{3}", "\\sqrt{12}")
    assert pool.verify_all([good], 5.0, 1) == [Equality.EQUAL]
    [first] = pool.process_ids
    started = time.monotonic()
    outcomes = pool.verify_all([HANGS, good, good], 1.0, 1)
    assert outcomes == [Equality.TIMED_OUT, Equality.EQUAL, Equality.EQUAL]
    assert time.monotonic() - started < 60
    assert not is_running(first), "the hung worker was replaced"
    assert len(pool.process_ids) == 1


def test_a_timeout_is_no_score() -> None:
    with pytest.raises(GradingTimeoutError, match=r"0\.5 s"):
        MATH.score(HANGS.answer, HANGS.truth, TaskOptions(tasks=TasksConfig(math=MathConfig(timeout=0.5))))


def test_a_worker_that_dies_gives_no_score_and_is_replaced(pool: WorkerPool) -> None:
    pool.verify_all([LatexPair("x", "y")], 5.0, 1)
    [worker] = pool._workers
    worker.kill()
    assert pool.verify_all([LatexPair("2x", "x+x")], 5.0, 1)[0] in (Equality.EQUAL, Equality.FAILED)
    assert pool.verify_all([LatexPair("2x", "x+x")], 5.0, 1) == [Equality.EQUAL]


def test_workers_are_few_and_reused(pool: WorkerPool) -> None:
    pairs = [LatexPair(f"{n}\\sqrt{{2}}", f"\\sqrt{{{2 * n * n}}}") for n in range(2, 40)]
    assert set(pool.verify_all(pairs, 5.0, 2)) == {Equality.EQUAL}
    first = set(pool.process_ids)
    pool.verify_all(pairs, 5.0, 2)
    assert set(pool.process_ids) == first
    assert len(first) <= 2
    pool.close()
    assert not any(map(is_running, first))


def test_an_interrupt_leaves_no_answer_for_the_next_question(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool.verify_all([LatexPair("x", "y")], 5.0, 1)
    with monkeypatch.context() as patched:

        def interrupt() -> None:
            raise KeyboardInterrupt

        patched.setattr(pool, "_wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pool.verify_all([LatexPair("2x", "x+x")], 5.0, 1)
    assert pool.verify_all([LatexPair("2x", "3x")], 5.0, 1) == [Equality.DIFFERENT]


def run_python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_the_tasks_is_light() -> None:
    loaded = run_python(
        "import curr_reft.tasks, sys; print([m for m in ('torch', 'sympy', 'math_verify') if m in sys.modules])"
    )
    assert loaded.strip() == "[]"


def test_verifying_loads_no_computer_algebra_here() -> None:
    loaded = run_python(
        """
        import sys
        from curr_reft.tasks.symbolic import verify
        print(verify("2\\\\sqrt{3}", "\\\\sqrt{12}"), [m for m in ("torch", "sympy") if m in sys.modules])
        """
    )
    assert loaded.strip() == "equal []"


def test_workers_end_with_their_parent() -> None:
    ids = run_python(
        """
        from curr_reft.tasks.symbolic import POOL, verify
        verify("2\\\\sqrt{3}", "\\\\sqrt{12}")
        print(POOL.server_id, *POOL.process_ids)
        """
    )
    assert ids.split()
    assert not any(is_running(int(process_id)) for process_id in ids.split())


def test_workers_end_when_their_parent_is_killed() -> None:
    code = """
        import os, signal, sys
        from curr_reft.tasks.symbolic import POOL, verify
        verify("2\\\\sqrt{3}", "\\\\sqrt{12}")
        print(POOL.server_id, *POOL.process_ids, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    ids = [int(text) for text in result.stdout.split()]
    assert ids
    end = time.monotonic() + 20
    while any(map(is_running, ids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(is_running, ids))


def test_a_fork_does_not_share_the_workers() -> None:
    """A child of os.fork starts its own workers and leaves its parent's alone."""
    verify("2\\sqrt{3}", "\\sqrt{12}")
    before = POOL.process_ids
    child = os.fork()
    if child == 0:
        outcome = verify("3\\sqrt{3}", "\\sqrt{27}")
        own = POOL.process_ids
        POOL.close()
        os._exit(0 if outcome is Equality.EQUAL and not set(own) & set(before) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert POOL.process_ids == before
    assert verify("2\\sqrt{3}", "\\sqrt{12}") is Equality.EQUAL


def test_an_installation_without_workers_is_named(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sympy.py").write_text("raise ImportError('this sympy is broken')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(VerificationError, match="this sympy is broken"):
        pool.verify_all([LatexPair("2x", "x+x")], 5.0, 1)
    assert pool.process_ids == ()


@pytest.mark.parametrize("place", ["the working directory", "the folder of the script"])
def test_no_module_of_the_user_replaces_one_of_the_workers(
    place: str, pool: WorkerPool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """EasyR1's examples have a ``math.py``; ``python -m`` and scripts put the folder of a run on the path."""
    for name in ("math", "sympy", "random", "typing", "json", "math_verify"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('a module of the user')")
    if place == "the working directory":
        monkeypatch.chdir(tmp_path)
    else:
        monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "train.py"), raising=False)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    assert pool.verify_all([LatexPair("2x", "x+x")], 30.0, 1) == [Equality.EQUAL]


def test_what_a_broken_worker_says_is_logged(pool: WorkerPool, caplog: pytest.LogCaptureFixture) -> None:
    broken_truth = LatexPair("42\\mod 43", "42")
    assert pool.verify_all([broken_truth], 5.0, 1)[0] in (Equality.FAILED, Equality.DIFFERENT)
    [worker] = pool._workers
    os.kill(worker.process_id, signal.SIGSTOP)  # busy for ever, then gone
    threading.Timer(0.5, worker.kill).start()
    assert pool.verify_all([LatexPair("2x", "x+x")], 30.0, 1) == [Equality.FAILED]
    assert "a verification worker ended on" in caplog.text


def test_a_server_that_was_killed_is_replaced(pool: WorkerPool) -> None:
    pool.verify_all([LatexPair("x", "y")], 5.0, 1)
    [orphan] = pool.process_ids
    assert pool.server_id is not None
    os.kill(pool.server_id, signal.SIGKILL)
    pair = LatexPair("2x", "x+x")
    assert pool.verify_all([pair, pair, pair], 5.0, 3) == [Equality.EQUAL] * 3
    pool.close()
    end = time.monotonic() + 10
    while is_running(orphan) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_running(orphan), "it ends with its channel"


def test_a_truth_that_breaks_the_parser_is_no_score_and_its_answers_are(pool: WorkerPool) -> None:
    outcomes = pool.verify_all([LatexPair("2\\sqrt{3}", "\\frac{1}"), LatexPair("2\\sqrt{3}", "\\sqrt{12}")], 5.0, 1)
    assert outcomes == [Equality.DIFFERENT, Equality.EQUAL]
