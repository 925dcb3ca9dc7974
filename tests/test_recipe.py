"""Recipes: what loads, what is refused and how the message helps, and that the documentation knows every key."""

from pathlib import Path
from typing import Any

import pytest
import tiny_run
from hypothesis import example, given
from hypothesis import strategies as st

from curr_reft import recipe_source
from curr_reft.errors import RecipeError
from curr_reft.recipe import Recipe, dump_recipe, flatten, load_recipe, recipe_sha256
from curr_reft.recipe_schema import NOT_HERE, OTHER_TOOLS, flags, keys, other_tools_table, reference

ROOT = Path(__file__).parents[1]

MINIMAL = """\
name: tiny
curriculum:
  total_steps: 20
  stages:
    - name: binary
      forms: {binary: 1}
      steps: 5
    - {name: open, forms: {open: 1}, steps: rest, replay: 0.3}
evaluation: {models: [base, curr_rl]}
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_recipe(text: str = MINIMAL, name: str = "recipe.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_recipe


def refusal(path: Path, *flags: str) -> str:
    with pytest.raises(RecipeError) as refused:
        load_recipe(path, flags)
    return str(refused.value).replace(f"{path.parent}/", "")


def test_a_minimal_recipe_takes_every_default(write: Any) -> None:
    recipe = load_recipe(write())
    assert recipe.name == "tiny"
    assert recipe.seed == 0
    assert recipe.output == Path("runs/tiny").absolute()
    assert recipe.rl.objective.beta == 0.04
    assert recipe.curriculum.stages[1].steps == "rest"
    assert recipe.sft is None


def test_flags_override_any_key(write: Any) -> None:
    flags = ["--seed", "7", "--rl.optimizer.lr=1e-4", "--curriculum.stages.0.steps", "10"]
    flags += ["--evaluation.models", "[base, rl]", "--curriculum.stages.1.replay", "0", "--model.lora.rank", "4"]
    recipe = load_recipe(write(), flags)
    assert recipe.seed == 7
    assert recipe.rl.optimizer.lr == 1e-4
    assert recipe.curriculum.stages[0].steps == 10
    assert recipe.evaluation.models == ("base", "rl")
    assert recipe.model.lora is not None
    assert recipe.model.lora.rank == 4


def test_a_key_of_a_section_leaves_the_other_defaults_of_that_section(write: Any) -> None:
    # The SFT of self-improvement has defaults of its own (2,000 steps, cosine); giving one key must not lose them.
    text = MINIMAL + "self_improvement:\n  pools: {math: {queries: 4, quota: 2}}\n  sft: {batch_size: 8}\n"
    sft = load_recipe(write(text)).self_improvement.sft
    assert (sft.batch_size, sft.steps, sft.optimizer.schedule, sft.optimizer.lr) == (8, 2000, "cosine", 2e-7)
    sft = load_recipe(write(text), ["--self_improvement.sft.optimizer.lr", "1e-5"]).self_improvement.sft
    assert (sft.optimizer.lr, sft.optimizer.schedule) == (1e-5, "cosine")


def test_the_resolved_recipe_loads_back_equal(write: Any, tmp_path: Path) -> None:
    recipe = load_recipe(write(), ["--rl.optimizer.lr", "0.1234567890123456789", "--output", "no", "--sft.steps", "3"])
    again = load_recipe(write(dump_recipe(recipe), "resolved.yaml"))
    assert again == recipe
    assert recipe_sha256(again) == recipe_sha256(recipe)
    assert recipe_sha256(load_recipe(write(), ["--seed", "1"])) != recipe_sha256(load_recipe(write()))
    assert recipe_sha256(load_recipe(write(), ["--output", "x"])) == recipe_sha256(load_recipe(write()))


shipped = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", shipped, ids=[path.name for path in shipped])
def test_every_shipped_recipe_loads(path: Path) -> None:
    assert load_recipe(path).name


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("sede: 3\n", "recipe.yaml:10: sede = 3: unknown key; did you mean seed?"),
        ("seed: '3'\n", 'recipe.yaml:10: seed = "3": must be a valid integer'),
        ("seed: true\n", "recipe.yaml:10: seed = true: must be a valid integer"),
        ("seed: 1.5\n", "recipe.yaml:10: seed = 1.5: must be a valid integer"),
        ("seed: 1\nseed: 2\n", "recipe.yaml:11: seed stands twice, first in line 10; remove one"),
        ("rl:\n\tbeta: 1\n", "recipe.yaml:11: not YAML: a tab; YAML is indented with spaces"),
        ("rl:\n  lr: 3\n", "recipe.yaml:11: rl.lr = 3: unknown key; did you mean rl.optimizer.lr?"),
        ("rl:\n  optimizer: {lr: 0}\n", "recipe.yaml:11: rl.optimizer.lr = 0: must be greater than 0"),
        ("rl:\n  optimizer: {lr: .inf}\n", "recipe.yaml:11: .inf is not a finite number"),
        ("rl: {objective: {loss: grop}}\n", "must be 'grpo', 'dr_grpo', 'dapo' or 'gspo'; did you mean grpo?"),
        ("model: 3\n", "recipe.yaml:10: model = 3: "),
        ("sft: {batch_size: 3}\n", "recipe.yaml:10: sft.steps: is required"),
        ("zzz: 1\n", "recipe.yaml:10: zzz = 1: unknown key; valid keys: name, seed, output"),
        ("name: [a\n", "recipe.yaml:11: not YAML: "),
        ("seed: !!python/object/apply:os.system [ls]\n", "recipe.yaml:10: "),
        ("seed: &a [*a]\n", "an anchor that holds itself"),
        ("name: ../up\n", "stands twice"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_a_way_out(write: Any, extra: str, expected: str) -> None:
    assert expected in refusal(write(MINIMAL + extra))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--sede", "3"], "--sede 3: unknown key; did you mean seed?"),
        (["--seed"], "--seed needs a value: --seed VALUE"),
        (["--seed", "--rl.beta", "3"], "--seed needs a value: --seed VALUE"),
        (["--seed", "-1"], "--seed -1: must be greater than or equal to 0"),
        (["seed", "1"], "'seed' is neither a flag nor its value"),
        (["--seed", "[a"], "--seed: not YAML: "),
        (["--output", ""], '--output "": must name a folder'),
        (["--output", "a\0b"], "--output: U+0000 is a control character; remove it"),
        (["--name", "\ud800"], "--name: U+D800 is half a character (an unpaired surrogate); remove it"),
        (["--seed", "9" * 5000], "...' cannot be read as int"),
        (["--rl", "[" * 3000], "--rl: not YAML: sections and lists are nested more than 100 deep"),
        (["--" + "a." * 3000 + "b", "1"], "not a key; keys look like --rl.optimizer.lr"),
        (["--name", "../up"], '--name "../up": '),
        (["--curriculum.stages.2.steps", "1"], "'2' is no place in the list curriculum.stages; places are 0 to 1"),
        (["--rl.prompts_per_step.x", "1"], "rl.prompts_per_step is 8, it has no key 'x'"),
        (["--rl..x", "1"], "--rl..x: not a key"),
        (["--evaluation.models", "[base, sft]"], "--evaluation.models: names sft, which needs the section sft"),
        (["--evaluation.models", "[curr_reft]"], "names curr_reft, which needs the section self_improvement"),
        (
            ["--rl.one_prompt_pass", "true", "--model.gradient_checkpointing", "true"],
            "--rl.one_prompt_pass: model.gradient_checkpointing keeps no activations",
        ),
        (["--rl.one_prompt_pass", "true", "--model.packed", "false"], "set it to false, or set model.packed to true"),
        (["--rl.one_prompt_pass", "true", "--model.lora", "{dropout: 0.1}"], "set it to false, or set that to 0"),
        (["--sampling.group_size", "1"], "--sampling.group_size: must be at least 2"),
        (["--curriculum.stages.0.forms", "{binery: 1}"], "forms.binery: unknown form; did you mean binary?"),
        (["--curriculum.stages.0.steps", "20"], "none is left for the last one"),
        (["--curriculum.stages.0.steps", "21"], "the stages ask for 21 steps, more than total_steps 20"),
        (["--curriculum.stages.0.replay", "0.3"], "the first stage has no earlier forms to replay"),
        (
            ["--curriculum.stages.0.steps", "all"],
            '--curriculum.stages.0.steps "all": must be a valid integer or must be',
        ),
    ],
)
def test_a_wrong_flag_is_named(write: Any, flags: list[str], expected: str) -> None:
    assert expected in refusal(write(), *flags)


def test_all_problems_are_in_one_message(write: Any) -> None:
    text = refusal(write(MINIMAL + "sede: 3\nrl: {lr: 3, optimizer: {lr: -1}}\n"), "--seed", "x")
    assert text.startswith("recipe.yaml: 4 problems\n")
    for key in ("sede = 3", "rl.lr = 3", "rl.optimizer.lr = -1", '--seed "x"'):
        assert key in text


def test_a_shipped_recipe_is_found_by_its_name_without_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "share" / "curr-reft" / "recipes" / "demo.yaml"
    shipped.parent.mkdir(parents=True)
    shipped.write_text("")
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    with pytest.raises(RecipeError, match=f"does not exist; the one that was installed with the package is {shipped}"):
        load_recipe(tmp_path / "recipes" / "demo.yaml")


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("--data.files.train", "rows.jsonl", "must be a list, as [a, b]"),
        ("--curriculum.stages", "open", "must be a list, as [a, b]"),
        ("--rl.optimizer", "adamw", "must be keys with values, as {a: 1}"),
        ("--data.shapes.train", "500", "must be keys with values, as {a: 1}"),
    ],
)
def test_the_shape_of_a_value_is_told_in_the_words_of_yaml(write: Any, flag: str, value: str, expected: str) -> None:
    text = refusal(write(), flag, value)
    assert text.startswith(flag)
    assert text.endswith(f": {expected}")


def test_a_colon_without_its_space_is_named(write: Any) -> None:
    assert "YAML wants a space after the colon: rank: 4" in refusal(write(), "--model.lora", "{rank:4}")


def test_files_that_are_no_recipes(tmp_path: Path, write: Any) -> None:
    write()
    with pytest.raises(RecipeError, match=r"does not exist; did you mean .*recipe\.yaml"):
        load_recipe(tmp_path / "recipes.yaml")
    with pytest.raises(RecipeError, match="is a directory"):
        load_recipe(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(RecipeError, match="not UTF-8"):
        load_recipe(tmp_path / "latin.yaml")
    for text in ("", "- a", "text"):
        with pytest.raises(RecipeError, match="a recipe is a list of keys"):
            load_recipe(write(text))


def test_data_files_are_found_from_the_recipe_and_stay_found(write: Any, tmp_path: Path) -> None:
    files = "data: {kind: files, files: {train: [{path: rows.jsonl}], test: [{path: /abs/t.jsonl, image_root: i}]}}\n"
    path = write(MINIMAL + files)
    recipe = load_recipe(path)
    assert recipe.data.files.train[0].path == str(tmp_path / "rows.jsonl")
    assert recipe.data.files.test[0].path == "/abs/t.jsonl"
    assert recipe.data.files.test[0].image_root == str(tmp_path / "i")
    (tmp_path / "elsewhere").mkdir()
    assert load_recipe(write(dump_recipe(recipe), "elsewhere/recipe.yaml")) == recipe
    flagged = load_recipe(path, ["--data.files.train.0.path", "here.jsonl"])
    assert flagged.data.files.train[0].path == str(Path.cwd() / "here.jsonl")


text = st.text(alphabet=st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufeff\u2028\u2029\x85"))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text.filter(bool), inner, max_size=4),
    max_leaves=12,
)


@given(plain)
def test_what_is_written_as_yaml_is_read_back(value: Any) -> None:
    assert recipe_source.parse(recipe_source.write(value), "x") == value


@pytest.mark.parametrize("word", ["yes", "no", "on", "1:30", "2024-01-01", "010x", "0x1f", "1e5x", "="])
def test_words_that_other_readers_take_for_something_else_are_text(word: str) -> None:
    assert recipe_source.parse(word, "x") == word
    assert recipe_source.parse("010", "x") == 10
    assert recipe_source.parse("16_384", "x") == 16384
    assert recipe_source.parse("1e-6", "x") == 1e-6


def test_flatten_names_every_value_once() -> None:
    assert flatten({"a": {"b": 1, "c": [{"d": 2}, {"d": 3}], "e": [1, 2], "f": {}}}) == {
        "a.b": 1,
        "a.c.0.d": 2,
        "a.c.1.d": 3,
        "a.e": [1, 2],
        "a.f": {},
    }


def test_every_key_says_what_it_means() -> None:
    assert [info.path for info in keys(Recipe) if not info.description] == []


def test_a_section_with_defaults_of_its_own_is_documented_with_them() -> None:
    told = {info.path: (info.required, info.default) for info in keys(Recipe)}
    assert told["self_improvement.sft.steps"] == (False, 2000)
    assert told["self_improvement.sft.optimizer.lr"] == (False, 2e-7)
    assert told["sft.steps"] == (True, None)
    assert told["sft.optimizer.lr"] == (False, 1e-6)
    _, table = reference(Recipe).split("## `self_improvement.sft.optimizer`")
    assert "| `schedule` | `constant` or `linear` or `cosine` | `cosine` |" in table
    told = {name: rule for name, rule, _ in flags(Recipe, "self_improvement.sft")}
    assert told["--self_improvement.sft.optimizer.lr"] == "number > 0; default 2e-07"


def test_the_documentation_holds_the_schema() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text()
    assert reference(Recipe) in text, "run: python -m curr_reft.recipe_docs docs/recipes.md tests/recipe_keys.txt"


@given(name=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20))
@example("q/run #2").via("was cut at the comment sign")
@example("null")
@example("[a, b]")
@example("key: value")
@example("'quoted'")
@example("~nobody-of-this-name/x")
@example("007")
@example("1e3")
def test_flags_of_text_and_paths_are_taken_as_typed(name: str) -> None:
    recipe = load_recipe(tiny_run.RECIPE, [f"--output=out/{name}"])
    assert recipe.output == Path(f"out/{name}").absolute()
    assert load_recipe(tiny_run.RECIPE, ["--model.device=null"]).model.device == "null"
    assert load_recipe(tiny_run.RECIPE, ["--model.revision=null"]).model.revision is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: \x07tiny", "recipe.yaml:1: not YAML: U+0007 is a control character; remove it"),
        ("seed: 1\nname: x\x1b[31m", "recipe.yaml:2: not YAML: U+001B is a control character; remove it"),
        ('name: "a\\0"', "recipe.yaml:1: U+0000 is a control character; remove it"),
        ('name: "\\ud800"', "recipe.yaml:1: U+D800 is half a character (an unpaired surrogate); remove it"),
        ('name: x\n"\\udfff": 1', "recipe.yaml:2: U+DFFF is half a character (an unpaired surrogate); remove it"),
        ("name: " + "[" * 3000, "recipe.yaml:1: not YAML: sections and lists are nested more than 100 deep"),
        ("\n".join(" " * depth + "a:" for depth in range(3000)), "recipe.yaml:100: not YAML: sections and lists"),
        ("seed: " + "9" * 5000, "recipe.yaml:1: '999"),
        ("seed: !!timestamp zzz", "recipe.yaml:1: the tag tag:yaml.org,2002:timestamp is not allowed in a recipe"),
        ("seed: !!bool maybe", "recipe.yaml:1: 'maybe' cannot be read as bool"),
    ],
)
def test_text_that_yaml_cannot_hold_is_refused_with_its_line(write: Any, text: str, expected: str) -> None:
    message = refusal(write(text))
    assert message.startswith(expected)
    assert len(message) < 300


def test_code_that_changes_the_working_directory_moves_no_path(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    caches = ["--model.image_cache", "cache", "--difficulty.cache", "rates.sqlite"]
    recipe = load_recipe(write(), ["--output", "runs/x", "--model.path", "models/mine", *caches])
    monkeypatch.chdir("/")
    assert recipe.output == tmp_path / "runs" / "x"
    assert recipe.model.path == str(tmp_path / "models" / "mine")
    assert recipe.model.image_cache == str(tmp_path / "cache")
    assert recipe.difficulty is not None
    assert recipe.difficulty.cache == str(tmp_path / "rates.sqlite")
    assert load_recipe(write(), ["--model.path", "Qwen/Qwen2.5-VL-3B-Instruct"]).model.path.startswith("Qwen/")


def test_names_of_other_tools_are_answered_with_keys_that_exist(write: Any) -> None:
    known = {info.path for info in keys(Recipe)}
    assert {key for key, _ in OTHER_TOOLS.values()} <= known
    assert not set(OTHER_TOOLS) & set(NOT_HERE)
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    way = "run: python -m curr_reft.recipe_docs docs/recipes.md tests/recipe_keys.txt docs/troubleshooting.md"
    assert other_tools_table() in page, way
    assert not (set(NOT_HERE) | set(OTHER_TOOLS)) & set(Recipe.model_fields)
    for name in ("learning_rate", "num_generations", "max_steps", "lora_rank", "output_dir", "report_to", "cutoff_len"):
        expected = OTHER_TOOLS[name][0] if name in OTHER_TOOLS else NOT_HERE[name]
        as_flag = refusal(write(MINIMAL), f"--{name.replace('_', '-')}", "1")
        for text in (refusal(write(MINIMAL + f"{name}: 1\n")), refusal(write(MINIMAL), f"--{name}", "1"), as_flag):
            assert f"unknown key; {name}" in text.replace("-", "_") or "there is no such key here" in text
            assert expected in text
