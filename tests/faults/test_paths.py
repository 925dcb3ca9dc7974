"""Paths of rows that somebody else wrote: by the user's door, refused with file and line, and nothing is opened."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from image_recipe import refusal, write_rows
from PIL import Image

from curr_reft.data import images
from curr_reft.data.images import FileImage
from curr_reft.errors import DataError

REFUSED = {
    "../secret.png": "holds ..",
    "a/../../secret.png": "holds ..",
    "..\\secret.png": "holds ..",
    "{tmp}/secret.png": "is absolute",
    "C:\\secret.png": "is absolute",
    "\\\\host\\share\\x.png": "is absolute",
    "file://{tmp}/secret.png": "is a URL",
    "http://127.0.0.1:9/x.png": "is a URL",
    "data:image/png;base64,AAAA": "is a base64 picture",
    "~/secret.png": "starts with ~",
    "good.png\0.jpg": "NUL",
    "out.png": "through a link",
    "folder/secret.png": "through a link",
    "loop.png": "cannot be resolved",
    "a" * 300 + ".png": "File name too long",
    "pipe.png": "is not a regular file",
    "device.png": "is not a regular file",
    "socket.png": "is not a regular file",
    "inner": "is not a regular file",
    "none.png": "does not exist",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of images in which some names lead elsewhere."""
    folder = tmp_path / "root"
    (folder / "inner").mkdir(parents=True)
    for path in (tmp_path / "secret.png", folder / "good.png", folder / "inner" / "deep.png"):
        Image.new("RGB", (32, 32), "red").save(path)
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    (folder / "folder").symlink_to(tmp_path)
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "inside.png").symlink_to(Path("inner") / "deep.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "device.png").symlink_to(os.devnull)
    REFUSED["device.png"] = "through a link"
    try:
        os.mknod(folder / "node.png", 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero, which has no end
        REFUSED["node.png"] = "is not a regular file"
    except PermissionError:  # only root makes devices
        REFUSED.pop("node.png", None)
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(folder)  # names of sockets are short
        try:
            server.bind("socket.png")
        finally:
            os.chdir(here)
    return folder


def test_no_path_leads_out(root: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Ten at a time, which is how many are shown; no row hangs the command, and nothing outside is opened."""
    opened: list[str] = []
    watching = True

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            opened.append(os.path.basename(os.fsdecode(arguments[0])))
        elif watching and event in ("socket.connect", "socket.getaddrinfo"):
            opened.append(event)

    sys.addaudithook(audit)
    names = list(REFUSED)
    started = time.monotonic()
    for start in range(0, len(names), 10):
        part = names[start : start + 10]
        said = refusal(write_rows(root, [name.replace("{tmp}", str(tmp_path)) for name in part]), capsys)
        for line, name in enumerate(part, start=1):
            (told,) = [text for text in said.splitlines() if f"train.jsonl:{line}: " in text]
            assert REFUSED[name] in told, (name, told)
    watching = False
    assert time.monotonic() - started < 60
    assert not {"secret.png", "pipe.png", "device.png", "node.png", "socket.png"} & {*opened}
    assert not [name for name in opened if name.startswith("socket.connect")]
    assert "good.png" in opened  # the hook was at work


def test_links_that_stay_inside_are_followed(root: Path) -> None:
    assert FileImage(root, "inside.png").open().size == (32, 32)
    assert FileImage(root / ".." / root.name, "inner/deep.png").open().size == (32, 32)
    link = root.parent / "link"
    link.symlink_to(root)
    assert FileImage(link, "inner/deep.png").open().size == (32, 32)


def _file(root: Path) -> None:
    (root / "inner" / "deep.png").unlink()
    (root / "inner" / "deep.png").symlink_to(root.parent / "secret.png")


def _folder(root: Path) -> None:
    (root / "inner").rename(root / "moved")
    (root / "inner").symlink_to(root.parent)
    (root.parent / "deep.png").symlink_to(root.parent / "secret.png")


def _real_folder(root: Path) -> None:
    (root / "inner").rename(root / "moved")
    (root / "inner").symlink_to(root.parent)
    (root.parent / "secret.png").rename(root.parent / "deep.png")


def _pipe(root: Path) -> None:
    (root / "inner" / "deep.png").unlink()
    os.mkfifo(root / "inner" / "deep.png")


def _gone(root: Path) -> None:
    (root / "inner" / "deep.png").unlink()


@pytest.mark.parametrize("swap", [_file, _folder, _real_folder, _pipe, _gone])
@pytest.mark.timeout(20)
def test_what_is_exchanged_between_check_and_opening(
    root: Path, monkeypatch: pytest.MonkeyPatch, swap: Callable[[Path], None]
) -> None:
    """The last moment: after every check by name, before the file is opened."""
    open_resolved = images._open_resolved

    def late(*arguments: Path) -> object:
        swap(root)
        return open_resolved(*arguments)

    monkeypatch.setattr(images, "_open_resolved", late)
    with pytest.raises(
        DataError, match=r"rows\.jsonl:4: image 'inner/deep\.png' (cannot be read|is not a regular|does not exist)"
    ):
        FileImage(root, "inner/deep.png", source="rows.jsonl:4").open()


def test_no_descriptor_is_left(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for name in ("inner/deep.png", "pipe.png", "none.png", "inner") * 20:
        image = FileImage(root, name)
        if name == "inner/deep.png":
            image.open()
        else:
            with pytest.raises(DataError):
                image.open()
    assert (len(os.listdir("/proc/self/fd")) if before else 0) == before
