"""Arguments of a recipe: the file, and the command line that wins over it."""

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hf_contrastive import ContrastiveTrainingArguments, get_loss, parse_recipe


RECIPES = Path(__file__).parents[2] / "recipes"
CPU = "--use_cpu=true"


@dataclass(frozen=True, kw_only=True)
class Data:
    dataset: str
    compare: list[str] = field(default_factory=list)
    rows: int | None = None


@dataclass
class Training(ContrastiveTrainingArguments):
    """The same arguments, built without run-time type checks: HfArgumentParser passes None for `debug`, a str."""


def write(folder: Path, text: str, name: str = "config.yaml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


@pytest.fixture
def config(tmp_path: Path) -> str:
    return write(
        tmp_path,
        f"""
        dataset: cats
        compare: [clip]
        loss: info_nce
        loss_kwargs: {{anchor: text}}
        learning_rate: 1.0e-3
        learn_logit_scale: false
        eval_strategy: "no"
        output_dir: {tmp_path / "from_file"}
        """,
    )


def parse(*argv: str, default: str | None = None) -> tuple[Data, Training]:
    return parse_recipe(Data, Training, default_config=default, argv=[*argv, CPU])


# ---- Where the file is named ----


@pytest.mark.parametrize("form", ["{}", "--config {}", "--config={}"])
def test_reads_the_named_file(config: str, form: str):
    data, training = parse(*form.format(config).split(" "))
    assert data == Data(dataset="cats", compare=["clip"])
    assert (training.loss, training.loss_kwargs) == ("info_nce", {"anchor": "text"})
    assert (training.learning_rate, training.learn_logit_scale) == (1e-3, False)
    assert training.output_dir.endswith("from_file")


def test_the_file_may_come_after_other_arguments(config: str):
    for argv in (["--rows", "5", "--config", config], ["--rows=5", f"--config={config}"]):
        data, _ = parse(*argv)
        assert (data.dataset, data.rows) == ("cats", 5)


def test_reads_the_default_file_where_none_is_named(config: str):
    assert parse(default=config)[0].dataset == "cats"


def test_the_named_file_replaces_the_default_one(config: str, tmp_path: Path):
    other = write(tmp_path, f"dataset: dogs\noutput_dir: {tmp_path}\n", "other.yml")
    data, training = parse(other, default=config)
    assert (data.dataset, data.compare, training.loss) == ("dogs", [], "clip_divergence")


def test_works_without_a_file(tmp_path: Path):
    data, training = parse("--dataset=cats", f"--output_dir={tmp_path}")
    assert (data.dataset, training.loss) == ("cats", "clip_divergence")


def test_reads_the_command_line_of_the_process(config: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["train.py", config, "--rows=7", CPU])
    data, _ = parse_recipe(Data, Training)
    assert (data.dataset, data.rows) == ("cats", 7)


# ---- What wins ----


def test_the_command_line_wins(config: str):
    data, training = parse(config, "--dataset=dogs", "--learning_rate", "0.5", "--compare", "siglip", "uni_align")
    assert (data.dataset, data.compare, training.learning_rate) == ("dogs", ["siglip", "uni_align"], 0.5)
    assert training.learn_logit_scale is False
    assert parse(config, "--learn_logit_scale", "true")[1].learn_logit_scale is True


@pytest.mark.parametrize("given", [["--loss", "clip"], ["--loss=clip"]], ids=" ".join)
def test_another_loss_leaves_the_options_of_the_file_behind(config: str, given: list[str]):
    training = parse(config, *given)[1]
    assert (training.loss, training.loss_kwargs) == ("clip", None)


def test_another_loss_keeps_the_options_given_with_it(config: str):
    assert parse(config, "--loss=clip", '--loss-kwargs={"chunk_size": 4}')[1].loss_kwargs == {"chunk_size": 4}
    training = parse(config, "--loss=clip", '--loss_kwargs={"chunk_size": 4}')[1]
    assert (training.loss, training.loss_kwargs) == ("clip", {"chunk_size": 4})


def test_options_of_the_loss_are_json_on_the_command_line(config: str):
    assert parse(config, "--loss_kwargs", '{"anchor": "image", "symmetric": false}')[1].loss_kwargs == {
        "anchor": "image",
        "symmetric": False,
    }


# ---- Numbers in YAML ----


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "0.001"])
def test_numbers_are_numbers_however_they_are_written(tmp_path: Path, text: str):
    """YAML 1.1 reads 1e-3, without a point, as text."""
    training = parse(write(tmp_path, f"dataset: cats\noutput_dir: {tmp_path}\nlearning_rate: {text}\n"))[1]
    assert training.learning_rate == pytest.approx(1e-3)
    assert isinstance(training.learning_rate, float)


@pytest.mark.parametrize("line", ["rows: [1, 2]", "rows: 1.5", "rows: true"])
def test_a_value_of_the_wrong_kind_is_refused(tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]):
    # As on the command line: argparse prints what is wrong and ends the program.
    with pytest.raises((SystemExit, ValueError)) as raised:
        parse(write(tmp_path, f"dataset: cats\noutput_dir: {tmp_path}\n{line}\n"))
    assert raised.value.args != (0,)
    assert "--rows" in capsys.readouterr().err or "no arguments" in str(raised.value)


def test_one_value_is_a_list_of_one(tmp_path: Path):
    data, _ = parse(write(tmp_path, f"dataset: cats\noutput_dir: {tmp_path}\ncompare: clip\n"))
    assert data.compare == ["clip"]


# ---- Errors ----


@pytest.mark.parametrize(
    "argv", [["nowhere.yaml"], ["--config", "nowhere.yaml"], ["--rows=1", "--config=nowhere.yaml"]]
)
def test_a_missing_file_is_refused(argv: list[str]):
    with pytest.raises(FileNotFoundError, match=r"There is no configuration file 'nowhere.yaml'"):
        parse(*argv)


def test_a_folder_is_no_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="There is no configuration file"):
        parse("--config", str(tmp_path))


def test_unknown_keys_are_named(tmp_path: Path):
    path = write(tmp_path, "dataset: cats\nlearning_rte: 1\nbatchsize: 2\n")
    with pytest.raises(
        ValueError,
        match=r"config.yaml has unknown keys \['batchsize', 'learning_rte'\]. Did you mean .*learning_rate.*--help",
    ):
        parse(path)


@pytest.mark.parametrize(("text", "kind"), [("- a\n- b\n", "list"), ("just text\n", "str"), ("5\n", "int")])
def test_a_file_without_a_mapping_is_refused(tmp_path: Path, text: str, kind: str):
    with pytest.raises(ValueError, match=f"must hold `name: value` lines, but holds a {kind}"):
        parse(write(tmp_path, text))


def test_an_empty_file_gives_nothing(tmp_path: Path):
    assert parse(write(tmp_path, "# nothing\n"), "--dataset=cats", f"--output_dir={tmp_path}")[0].dataset == "cats"


def test_what_is_required_and_given_nowhere_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        parse(f"--output_dir={tmp_path}")
    assert "required: --dataset" in capsys.readouterr().err


def test_an_unknown_argument_is_named(config: str):
    with pytest.raises(ValueError, match=r"no arguments --learning_rte=1\. Did you mean --learning_rate"):
        parse(config, "--learning_rte=1")


def test_config_without_a_file_is_refused():
    with pytest.raises(ValueError, match="`--config` needs a file"):
        parse_recipe(Data, Training, argv=["--dataset=cats", "--output_dir=x", "--config"])


def test_broken_yaml_is_reported_with_its_file(tmp_path: Path):
    with pytest.raises(ValueError, match=r"config.yaml"):
        parse(write(tmp_path, "dataset: [cats\n"))


# ---- The recipe's own files ----


@pytest.fixture(scope="module")
def recipe() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("clip_decoupled_recipe", RECIPES / "clip_decoupled.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


@pytest.mark.parametrize("path", sorted((RECIPES / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_parses(recipe: ModuleType, path: Path):
    data, training = parse_recipe(recipe.RecipeArguments, Training, argv=[str(path), CPU])
    assert get_loss(training.loss, **(training.loss_kwargs or {}))
    assert training.output_dir.startswith("outputs/")
    assert data.image_size % data.patch_size == 0


def test_the_recipe_starts_without_arguments(recipe: ModuleType):
    data, training = parse_recipe(recipe.RecipeArguments, Training, default_config=recipe.DEFAULTS, argv=[CPU])
    assert (data.dataset, data.model, data.compare) == (None, None, [])
    assert training.loss == "clip_divergence"


def test_every_argument_of_the_recipe_is_its_own(recipe: ModuleType):
    names: list[Any] = [
        set(kind.__dataclass_fields__) for kind in (recipe.RecipeArguments, ContrastiveTrainingArguments)
    ]
    assert not names[0] & names[1]


def test_every_argument_of_the_recipe_has_help(recipe: ModuleType):
    fields = recipe.RecipeArguments.__dataclass_fields__
    assert not [name for name, field in fields.items() if not field.metadata.get("help")]


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        ([], "clip_decoupled"),
        (["--model=x"], "finetune"),
        (["--towers", "{}"], "towers"),
        (["--loss", "clip"], "clip_decoupled"),
    ],
)
def test_what_is_trained_has_a_file_of_its_own(recipe: ModuleType, argv: list[str], name: str):
    assert recipe.default_config(argv) == RECIPES / "configs" / f"{name}.yaml"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--model=x", "--image_size=32"],
            "`image_size` is a size of the small model, but `model` names another to train",
        ),
        (["--model=x", "--width=64"], "`width` is a size of the small model, but `model`"),
        (['--towers={"a": 4, "b": 4}', "--text_layers=1"], "`text_layers` is a size of the small model, but `towers`"),
        (['--towers={"a": 4, "b": 4}', "--model=x"], "Either `model` or `towers` is trained, but got 'x' and {'a': 4"),
        (["--width=100"], "`width` must be a multiple of 32, but got 100"),
    ],
)
def test_sizes_of_a_model_that_is_not_trained_are_refused(recipe: ModuleType, argv: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        parse_recipe(recipe.RecipeArguments, Training, argv=[*argv, CPU])


def test_the_joint_space_may_have_any_width(recipe: ModuleType):
    argv = ['--towers={"a": 4, "b": 4}', "--width=100", CPU]
    assert parse_recipe(recipe.RecipeArguments, Training, argv=argv)[0].width == 100
    assert parse_recipe(recipe.RecipeArguments, Training, argv=[CPU])[0].width == 128
