"""Commands as a user types them: in a shell, or quicker in a process that has imported everything already."""

import os
import runpy
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import tiny_run

LIMIT = 240.0  # seconds any one command may take; a busy machine needs a tenth of it


def in_shell(command: str, folder: Path) -> str:
    """Typed in ``folder`` with the virtual environment active; what it prints. Fails unless it ends with 0."""
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
        env={
            **os.environ,
            **tiny_run.ONE_THREAD,
            "PATH": f"{tiny_run.PROGRAM.parent}{os.pathsep}{os.environ['PATH']}",
        },
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def quickly(command: str, folder: Path) -> str:
    """The same of ``curr-reft WORDS`` or ``python SCRIPT WORDS``, forked from a process that has imported all of it."""
    program, *words = shlex.split(command)
    assert program in ("curr-reft", "python"), command
    with tempfile.NamedTemporaryFile() as log:
        process = tiny_run.fork(_carry_out, program, words, folder, Path(log.name))
        code = tiny_run.wait(process)
        said = Path(log.name).read_text(encoding="utf-8")
    assert code == 0, f"{command}\n{said}"
    return said


def _carry_out(program: str, words: list[str], folder: Path, log: Path) -> None:
    tiny_run.begin(log)
    os.chdir(folder)
    if program == "curr-reft":
        from curr_reft.cli import main

        sys.exit(main(words))
    sys.argv = words
    sys.path.insert(0, str(Path(words[0]).parent))
    runpy.run_path(words[0], run_name="__main__")
