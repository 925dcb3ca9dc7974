"""Give a run directory that a test changed on purpose the hashes of what it holds now."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curr_reft.integrity import GrowingFile, file_entry, sealed
from curr_reft.run_record import METRICS, METRICS_ENTRY, STATE


def reseal(path: Path, **changes: Any) -> None:
    """Write the sealed record ``path`` again, with ``changes`` in its content."""
    path.write_text(json.dumps(sealed({**json.loads(path.read_text()), **changes}), indent=2) + "\n")


def reseal_run(run: Path, record: Mapping[str, Any] | None = None) -> None:
    """Write ``run.json`` again (with the content ``record``), with the hashes of the files that are there."""
    content = dict(record if record is not None else json.loads((run / STATE).read_text()))
    names = [name for name in content.get("files", {}) if (run / name).is_file()]
    content["files"] = {name: file_entry(run / name) for name in names}
    content[METRICS_ENTRY] = GrowingFile(run / METRICS).entry()
    (run / STATE).write_text(json.dumps(sealed(content)))
