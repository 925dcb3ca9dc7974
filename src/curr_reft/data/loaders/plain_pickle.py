"""A pickle of plain values, read without the power to run anything.

The house reads no pickles; the one exception is the published form of RefCOCO's expressions (``refs(unc).p``). A pickle
acts only through a class or function that it names, and naming one is refused here, whichever it is: what is left are
lists, tuples, dicts, texts, numbers, bytes, true, false and none. A damaged file can at worst ask for much memory.
"""

import pickle
from pathlib import Path
from typing import Any, NoReturn

from curr_reft.errors import DataError

CONVERSION = (
    "python -c \"import json,pickle,sys; json.dump(pickle.load(open(sys.argv[1],'rb'),encoding='utf-8'),"
    "open(sys.argv[2],'w'))\" refs.p refs.json"
)


class _Plain(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}, which could run code")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it refers to something outside of itself")


def read_plain(path: Path, name: str) -> Any:
    """The value in a pickle of plain values, those of Python 2 too. Raises DataError for anything else."""
    try:
        with path.open("rb") as file:
            return _Plain(file, encoding="utf-8").load()
    except OSError as error:
        raise DataError(name, f"cannot be read: {error.strerror} ({path})") from error
    except Exception as error:  # a cut or damaged pickle raises whatever its bytes lead to
        raise DataError(
            name,
            f"is refused: {error}. Only plain lists, dicts, texts and numbers are read from a pickle; if you trust its "
            f"source, make JSON of it, which runs what it holds: {CONVERSION}",
        ) from error
