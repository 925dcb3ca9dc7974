"""Text that acts on a terminal, hides in it, or is read as markup."""

TERMINAL = {
    "color": "\x1b[31mred\x1b[0m",
    "clear screen": "\x1b[2J\x1b[H",
    "line above": "\x1b[1A\x1b[2K[ 12.0 s] done",
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;cm0gLXJmIH4K\x07",
    "hyperlink": "\x1b]8;;http://127.0.0.1/\x1b\\click\x1b]8;;\x1b\\",
    "device control": "\x1bP$q q\x1b\\",
    "answerback": "\x05",
    "reset": "\x1bc",
    "other character set": "\x0e",
    "C1 CSI": "\x9b31m",
    "C1 OSC": "\x9d0;owned\x9c",
    "next line": "\x85",
    "bell": "\x07",
    "backspace": "safe\x08\x08\x08\x08evil",
    "carriage return": "safe\revil",
    "delete": "\x7f",
    "form feed": "\x0c\x0b",
    "override": "\u202egnp.exe\u202c",
    "isolate": "\u2066x\u2069",
    "mark": "\u200f\u061c",
    "zero width": "a\u200bb\ufeffc\u2060d",
    "tags": "\U000e0041\U000e007f",
    "separators": "\u2028\u2029",
    "half a character": "\udc9b",
    "null": "\x00",
}
MARKUP = ("[red]x[/red]", "[/]", "[link=http://127.0.0.1/]x[/link]", ":warning:", "%s %(x)s", "{x}")
EVERYTHING = " ".join(TERMINAL.values())


def acting(text: str) -> list[str]:
    """The characters of a terminal's output that do not just show themselves; written out, and no category of ours."""
    ranges = (
        (0x00, 0x08), (0x0B, 0x1F), (0x7F, 0x9F), (0x61C, 0x61C), (0x200B, 0x200B), (0x200E, 0x200F), (0x2028, 0x202E),
        (0x2060, 0x206F), (0xD800, 0xDFFF), (0xFEFF, 0xFEFF), (0xE0000, 0xE007F),
    )  # fmt: skip
    return [char for char in text if any(low <= ord(char) <= high for low, high in ranges)]
