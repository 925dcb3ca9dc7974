"""``curr-reft push``: a model folder to a model hub, file by file as listed, and nothing else.

Only files of a model at the top of the folder are sent: never rollouts, checkpoints, or a folder inside. The token
comes from the environment (HF_TOKEN) and nowhere else; it is written nowhere.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from curr_reft.errors import CurrReftError, UsageError
from curr_reft.export.base import CARD, CONFIG
from curr_reft.report.card import is_card_of_base

TOKEN = "HF_TOKEN"
SENT = (".safetensors", ".json", ".jinja", ".txt", ".model", ".md")  # endings of the files of a model
LICENCES = ("LICENSE", "LICENCE", "NOTICE", "COPYING")


def files_to_send(folder: Path) -> tuple[list[Path], list[str]]:
    """(what is sent, the names of what is not). Raises UsageError for a folder that is no whole model."""
    if not (folder / CONFIG).is_file() or not any(folder.glob("*.safetensors")):
        raise UsageError(
            f"{folder} is no model folder: it needs {CONFIG} and *.safetensors; curr-reft merge writes one"
        )
    if not (folder / CARD).is_file():
        raise UsageError(f"{folder} has no model card ({CARD}); curr-reft merge writes one, or write your own")
    sent = [path for path in sorted(folder.iterdir()) if _is_sent(path)]
    return sent, sorted(path.name for path in folder.iterdir() if path not in sent)


def holds_base(folder: Path) -> bool:
    """Whether the card that merge wrote says that the folder has the weights of its base."""
    card = folder / CARD
    return card.is_file() and is_card_of_base(card.read_text(encoding="utf-8", errors="replace"))


def push(folder: Path, files: Sequence[Path], repo: str, private: bool) -> str:
    """Makes the repository where it is not there and uploads ``files`` of ``folder`` in one commit; its address.

    Raises UsageError without a token, CurrReftError with what the hub answered.
    """
    token = token_of_environment()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    hub = HfApi(token=token)
    try:
        made = hub.create_repo(repo, private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=made.repo_id,
            folder_path=folder,
            allow_patterns=[path.name for path in files],
            ignore_patterns=["*/*"],
            commit_message="A model made by curr-reft",
        )
    except HFValidationError as error:
        raise UsageError(f"--repo {repo}: {error}") from error
    except Exception as error:  # the client's errors are of several libraries; what they say may hold headers
        told = str(error).replace(token, "***")
        raise CurrReftError(f"the hub did not take {repo}: {type(error).__name__}: {told}; try again") from None
    return str(made)


def token_of_environment() -> str:
    """Raises UsageError where there is none."""
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise UsageError(
            f"{TOKEN} is not set; put a token that may write into the environment, for this command alone: "
            f"{TOKEN}=... curr-reft push ..."
        )
    return token


def _is_sent(path: Path) -> bool:
    known = path.name.endswith(SENT) or path.name.partition(".")[0] in LICENCES
    return known and path.is_file() and not path.is_symlink() and not path.name.startswith(".")
