"""Section of the recipe for data: which rows, in which split, and what happens to rows that cannot be used."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from curr_reft.config import Config
from curr_reft.data.loaders import COLUMNS, LOADERS, nearest
from curr_reft.data.sampling import Sampling

ShapesTask: TypeAlias = Literal["detection", "classification", "math"]
Counts: TypeAlias = dict[ShapesTask, int]

PILLOWS_LIMIT = 178_956_970
"""Pixels beyond which Pillow opens no image, whatever else is asked of it (twice its ``Image.MAX_IMAGE_PIXELS``)."""


def _each(count: int) -> Counts:
    return {"detection": count, "classification": count, "math": count}


class ShapesConfig(Config):
    """The drawn world: how many items a task and split."""

    train: Counts = Field(_each(1500), description="task -> items to train on")
    validation: Counts = Field(_each(300), description="task -> held-out items that choose the checkpoint")
    test: Counts = Field(_each(300), description="task -> in-domain test items")
    ood_test: Counts = Field(_each(300), description="task -> out-of-domain test items")
    pool: dict[Literal["detection", "classification", "math", "arithmetic"], int] = Field(
        {"detection": 150, "classification": 150, "math": 150, "arithmetic": 100},
        description="domain -> queries of self-improvement, on images of their own; arithmetic is text only",
    )
    general: dict[Literal["arithmetic"], Annotated[int, Field(ge=0)]] = Field(
        {"arithmetic": 100},
        description="domain -> text-only items that nothing is trained on, asked openly and as yes or no",
    )
    seed: int = Field(
        0, ge=0, description="names the drawn world; apart from the run's seed, so that seeds share their data"
    )

    @field_validator("train", "validation", "test", "ood_test")
    @classmethod
    def _check_counts(cls, counts: Counts) -> Counts:
        if not counts or min(counts.values()) < 0 or sum(counts.values()) == 0:
            raise ValueError(f"{counts} must name at least one task and hold no negative count")
        return counts


class PointsConfig(Config):
    """Drawn hands of cards whose numbers reach a target (GeneralPoints, arXiv 2501.17161; docs/general-points.md)."""

    train: int = Field(1500, ge=1, description="items to train on")
    validation: int = Field(150, ge=1, description="held-out items that choose the checkpoint")
    test: int = Field(300, ge=1, description="in-domain test items")
    ood_test: dict[Literal["rule", "visual", "target"], Annotated[int, Field(ge=0)]] = Field(
        {"rule": 300, "visual": 300},
        description="what is other -> out-of-domain test items; rule: what J, Q and K count as, visual: the colour of "
        "the suits, target: the number to reach",
    )
    pool: int = Field(0, ge=0, description="queries of self-improvement, on hands of their own; their domain is points")
    target: int = Field(24, ge=1, le=99, description="the number to reach")
    other_target: int = Field(36, ge=1, le=99, description="the number to reach in the out-of-domain items target")
    faces: Literal["ten", "rank"] = Field(
        "ten", description="ten: J, Q and K count as 10; rank: as 11, 12 and 13; the other one is out of domain"
    )
    colour: Literal["black", "red"] = Field(
        "black", description="black: spades and clubs; red: hearts and diamonds; the other one is out of domain"
    )
    styles: tuple[Literal["pips", "corners", "large"], ...] = Field(
        ("pips", "corners", "large"), min_length=1, description="how cards are drawn; each hand draws one"
    )
    width: int = Field(448, ge=112, le=2048, description="pixels of a picture; its height is 0.55 of it")
    seed: int = Field(
        0, ge=0, description="names the drawn hands; apart from the run's seed, so that seeds share their data"
    )

    @model_validator(mode="after")
    def _check_target(self) -> "PointsConfig":
        if self.ood_test.get("target") and self.other_target == self.target:
            raise ValueError(
                f"other_target is {self.target} like target, so the items of ood_test.target would be in-domain; "
                "choose another"
            )
        return self


class FileEntry(Config):
    """One file or folder of rows. A ``.yaml`` file is a composition: the files under its ``train_datasets`` (in the
    split train) or ``val_datasets`` (in any other) are read instead."""

    path: str = Field(
        min_length=1,
        description="a file or folder in one of the formats, or a YAML composition; relative to the recipe's folder",
    )
    format: str = Field(
        "auto", description="layout of the rows, a name of docs/datasets.md; auto: told by folder, suffix and keys"
    )
    columns: dict[str, str] = Field(
        {}, description=f"{', '.join(COLUMNS)} -> the name it has in the file, for tables without fixed names"
    )
    options: dict[str, str | int | float | bool] = Field({}, description="what the format asks for (docs/datasets.md)")
    sampling: str = Field(
        "all", description="all, first:N, end:N or random:N; N is a count or a percentage (random:10%)"
    )
    image_root: str | None = Field(
        None, description="folder that image paths are relative to; null: the folder of the file"
    )
    image_prefix: str = Field(
        "",
        description="beginning of the image paths of the rows that is taken off (/data/coco/ of another machine); a "
        "path without it is an error",
    )
    task: str | None = Field(None, description="task of rows that name none")
    domain: str = Field("", description="quota group of self-improvement, for entries of pool; empty: the task")
    boxes: Literal["pixels", "thousand", "unit"] = Field(
        "pixels",
        description="what the file's boxes are given in, where its format does not say: pixels of the image, 0-1000, "
        "or 0-1",
    )
    box_format: Literal["xyxy", "xywh", "cxcywh"] | None = Field(
        None,
        description="what the four numbers of a box are. xyxy: two corners; xywh: the upper left corner, width and "
        "height; cxcywh: the centre, width and height; null: what the names of the numbers say (x, y, width, height), "
        "else xyxy",
    )

    @field_validator("sampling")
    @classmethod
    def _check_sampling(cls, text: str) -> str:
        Sampling.parse(text)
        return text

    @field_validator("format")
    @classmethod
    def _check_format(cls, name: str) -> str:
        if name not in LOADERS:
            raise ValueError(f"{name!r} is no format; {nearest(name, LOADERS)}")
        return name

    @model_validator(mode="after")
    def _check_format_keys(self) -> "FileEntry":
        loader = LOADERS[self.format]
        if self.columns and not loader.columns:
            takers = ", ".join(name for name, each in LOADERS.items() if each.columns)
            raise ValueError(f"columns: the format {self.format} has names of its own; columns are for {takers}")
        for name in self.columns:
            if name not in COLUMNS:
                raise ValueError(f"columns: {name!r} is not known; {nearest(name, COLUMNS)}")
        for key in self.options:
            if key not in loader.options:
                takers = ", ".join(name for name, each in LOADERS.items() if key in each.options)
                first = f"name the format first ({takers or 'none has such an option'})"
                hint = first if self.format == "auto" else nearest(key, loader.options)
                raise ValueError(f"options: {key!r} is no option of the format {self.format}; {hint}")
        return self

    @model_validator(mode="after")
    def _check_composition(self) -> "FileEntry":
        if self.is_composition and self.sampling != "all":
            raise ValueError(
                f"sampling {self.sampling} does not apply to a composition; set it on the entries inside {self.path}"
            )
        return self

    @property
    def is_composition(self) -> bool:
        return self.path.endswith((".yaml", ".yml"))


class FilesConfig(Config):
    """Your own rows. Every split is a list of files."""

    train: tuple[FileEntry, ...] = Field((), description="rows to train on")
    validation: tuple[FileEntry, ...] = Field(
        (), description="held-out rows that choose the checkpoint; empty: split off train"
    )
    test: tuple[FileEntry, ...] = Field((), description="in-domain test rows")
    ood_test: tuple[FileEntry, ...] = Field((), description="out-of-domain test rows")
    pool: tuple[FileEntry, ...] = Field(
        (), description="queries of self-improvement; empty: the training rows are asked again"
    )
    general: tuple[FileEntry, ...] = Field(
        (), description="rows of another kind that nothing is trained on: what a model forgets is seen in them"
    )
    validation_fraction: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="share of train split off for validation when validation is empty; images stay together",
    )
    test_fraction: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of train split off as the test, for data without test rows of its own; before validation, "
        "and images stay together. null: test lists files",
    )
    seed: int = Field(0, ge=0, description="draws random:N and what is split off for test and validation")


class DataConfig(Config):
    """Where the items come from."""

    kind: Literal["shapes", "points", "files"] = Field(
        "shapes", description="shapes: the drawn world; points: drawn cards (GeneralPoints); files: your own rows"
    )
    shapes: ShapesConfig = ShapesConfig()
    points: PointsConfig = PointsConfig()
    files: FilesConfig = FilesConfig()
    bad_rows: Literal["fail", "skip"] = Field(
        "fail", description="fail: stop and list every bad row; skip: go on without them and count them"
    )
    check_images: Literal["header", "decode"] = Field(
        "decode", description="decode: every image is decoded once before training, so that a cut file is found now"
    )
    leaks: Literal["perceptual", "exact"] = Field(
        "perceptual",
        description="how a picture is recognised in another split. perceptual: under other bytes too (re-encoded or "
        "resized), which decodes every image file once; exact: by the bytes of the file",
    )
    leaking_rows: Literal["fail", "skip"] = Field(
        "fail",
        description="rows that show a picture of another split. fail: stop and name them; skip: leave them out of what "
        "is learned from (the pool first, then train, then validation; never of a test), and count them",
    )
    max_pixels: int = Field(
        64_000_000,
        ge=1,
        le=PILLOWS_LIMIT,
        description="most pixels an image file may hold, checked before decoding; the bound is Pillow's own",
    )

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        if self.kind == "files":
            if not self.files.train:
                raise ValueError("kind is files, but files.train is empty; list at least one file")
            if not self.files.test and self.files.test_fraction is None:
                raise ValueError(
                    "kind is files, but files.test is empty; a result needs rows that were not trained on: list them, "
                    "or set files.test_fraction (0.1) to split them off train"
                )
            if self.files.test and self.files.test_fraction is not None:
                raise ValueError("files.test_fraction splits a test off train, but files.test lists one; keep one")
        elif "files" in self.model_fields_set and self.files != FilesConfig():
            raise ValueError(f"files is filled, but kind is {self.kind}; set kind: files")
        return self
