r"""Train or fine-tune an encoder of images and texts, or of any modalities, measure it, share it.

Without arguments, a small CLIP learns the embedded scenes in minutes on a CPU:

    accelerate launch recipes/clip_decoupled.py --compare clip

Your data, your model, your name on the Hub (any argument may also stand in a YAML file, see recipes/configs):

    accelerate launch recipes/clip_decoupled.py recipes/configs/finetune.yaml --model openai/clip-vit-base-patch32 \
        --dataset your-org/captioned-images --push_to_hub --hub_model_id your-name/your-encoder

Any encoders, joined:

    accelerate launch recipes/clip_decoupled.py recipes/configs/towers.yaml --dataset your-org/narrated-photos \
        --towers '{"image": "facebook/dinov2-small", "text": "answerdotai/ModernBERT-base", "audio": "openai/whisper-tiny"}'
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, ProcessorMixin, set_seed

from hf_contrastive import (
    ContrastiveTrainer,
    ContrastiveTrainingArguments,
    PushError,
    SmallCLIPSize,
    get_loss,
    list_losses,
    load_dual_encoder,
    load_pairs,
    parse_recipe,
    result_table,
    small_clip,
)
from hf_contrastive.data import ExampleSplits, ExampleStream, PairSplits
from hf_contrastive.export import export_metadata
from hf_contrastive.hub import check_can_push, push_folder
from hf_contrastive.hub.command import NOT_PUSHED
from hf_contrastive.recipe import gives
from hf_contrastive.recipe.next_steps import next_steps
from hf_contrastive.recipe.parser import told_in_one_line
from hf_contrastive.recipe.run import (
    Run,
    make_trainer,
    save_runs,
    train_and_test,
    use_cpu_cores,
    with_other_loss,
)
from hf_contrastive.recipe.sharing import SharingArguments
from hf_contrastive.recipe.towers import JoinedArguments, join_towers, load_joined_data
from hf_contrastive.report import check_card
from hf_contrastive.report.result import before_training


CONFIGS = Path(__file__).parent / "configs"
DEFAULTS = CONFIGS / "clip_decoupled.yaml"
SMALL = {size.name: size.default for size in fields(SmallCLIPSize)}


def _argument(help: str, default: Any = None) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class RecipeArguments(JoinedArguments, SharingArguments, SmallCLIPSize):
    """What to train on what. The fields of [`SmallCLIPSize`] shape the small model, where no other is named."""

    dataset: str | None = _argument(
        "Hub id, folder, parquet/JSON/CSV/tar files such as data/{00..07}.tar, or loader. By default the scenes."
    )
    streaming: bool = _argument("Read the training data while training. Needs --max_steps.", False)
    shuffle_buffer: int = _argument("Rows of a stream that are shuffled with each other; 0 for none.", 10_000)
    dataset_config: str | None = _argument("Configuration of the dataset.")
    data_dir: str | None = _argument("Folder for a loader such as imagefolder.")
    image_column: str = _argument("Column with the images.", "image")
    caption_column: str | None = _argument(
        "Column with a caption or a list of captions, one of which is drawn per epoch. By default the first of the "
        "usual names, such as caption."
    )
    train_split: str = _argument("Split to train on.", "train")
    validation_split: str | None = _argument(
        "Split for evaluation while training. By default the one of a usual name, such as validation."
    )
    test_split: str | None = _argument(
        "Split that the final numbers are from. By default test, validation, or rows held out of the training split."
    )
    where: str | None = _argument("Keep the rows where this boolean column is true.")
    id_column: str | None = _argument(
        "Column telling which rows show the same: they are no negatives of each other. By default each row is its own."
    )
    on_bad_row: str = _argument("What becomes of training rows that cannot be used: raise or skip.", "raise")
    max_test_rows: int | None = _argument("Size of the test pool at most, in rows. By default all.")
    model: str | None = _argument("Dual encoder to fine-tune, a Hub id or folder. By default a small new CLIP.")
    compare: list[str] = field(
        default_factory=list, metadata={"help": "Losses to train the same model with, for the table: --compare clip."}
    )
    cpu_threads: int | None = _argument("Threads per process. By default all cores, shared by the processes.")

    def __post_init__(self) -> None:
        JoinedArguments.__post_init__(self)
        if self.model and self.towers:
            raise ValueError(f"Either `model` or `towers` is trained, but got {self.model!r} and {self.towers}.")
        if other := "model" if self.model else "towers" if self.towers else None:
            usual = SMALL | {"width": self.width if self.towers else None}
            if sizes := [name for name, default in usual.items() if getattr(self, name) != default]:
                raise ValueError(f"`{sizes[0]}` is a size of the small model, but `{other}` names another to train.")
            return
        if self.width is None:
            object.__setattr__(self, "width", SMALL["width"])
        SmallCLIPSize.__post_init__(self)


def default_config(arguments: Sequence[str]) -> Path:
    """The file of arguments for what a command line trains, where it names none."""
    joins, tunes = (gives(arguments, name) for name in ("towers", "model"))
    return CONFIGS / "towers.yaml" if joins else CONFIGS / "finetune.yaml" if tunes else DEFAULTS


def open_run(
    recipe: RecipeArguments, training: ContrastiveTrainingArguments, pairs: ExampleSplits | None = None
) -> tuple[PreTrainedModel, ProcessorMixin, ExampleSplits]:
    """The model to train, the same at every call with one seed, its processor, and the data unless they are there."""
    if recipe.towers:
        # First, as it says what its columns hold.
        model, processor = join_towers(recipe, training)
        return model, processor, pairs or load_recipe_pairs(recipe, training, processor)
    pairs = pairs or load_recipe_pairs(recipe, training)
    set_seed(training.seed)
    if recipe.model:
        return *load_dual_encoder(recipe.model), pairs
    assert isinstance(pairs, PairSplits)
    return *small_clip(pairs.train.captions, recipe), pairs


def load_recipe_pairs(
    recipe: RecipeArguments, training: ContrastiveTrainingArguments, joined: Any = None
) -> ExampleSplits:
    """The data of the recipe, as the processor of `joined` towers takes them; one process prepares it for the others."""
    source: dict[str, Any] = {
        "config": recipe.dataset_config,
        "data_dir": recipe.data_dir,
        "train_split": recipe.train_split,
        "validation_split": recipe.validation_split,
        "test_split": recipe.test_split,
        "where": recipe.where,
        "id_column": recipe.id_column,
        "max_test_rows": recipe.max_test_rows,
        "on_bad_row": recipe.on_bad_row,
        "seed": training.seed,
        "streaming": recipe.streaming,
        "buffer_size": recipe.shuffle_buffer,
    }
    columns = {"image": recipe.image_column, "text": recipe.caption_column}
    with training.main_process_first(desc="loading the data"):
        if joined is not None:
            return load_joined_data(recipe, joined, recipe.dataset, usual=columns, **source)
        return load_pairs(
            recipe.dataset, image_column=recipe.image_column, caption_column=recipe.caption_column, **source
        )


def push_run(trainer: ContrastiveTrainer, folder: Path) -> bool:
    """Push a finished run if it is asked for; whether all is on the Hub that should be."""
    if not trainer.args.push_to_hub or not trainer.is_world_process_zero():
        return True
    check_card(folder)
    try:
        print(f"\nPushed: {push_folder(folder, trainer.args)}")
    except PushError as error:
        print(f"\n{error}", file=sys.stderr)
        return False
    for message in trainer.unpushed:
        print(f"\n{message}", file=sys.stderr)
    return not trainer.unpushed


def data_options(recipe: RecipeArguments, pairs: ExampleSplits) -> dict[str, str | None]:
    """What `hf-contrastive diagnose` calls the data of the test."""
    if recipe.dataset is None and not recipe.towers:
        return {"id_column": recipe.id_column}
    data = {name: getattr(recipe, name) for name in ("dataset", "data_dir", "where", "id_column")}
    data |= {"config": recipe.dataset_config, "split": recipe.test_split}
    if recipe.towers:
        return data | {"columns": json.dumps(pairs.test.columns)}
    return data | {"image_column": recipe.image_column, "text_column": recipe.caption_column}


def main(recipe: RecipeArguments, training: ContrastiveTrainingArguments) -> None:
    arguments = {training.loss: training} | {loss: with_other_loss(training, loss) for loss in recipe.compare}
    # Before any training, as a wrong licence or loss to compare with would otherwise be told after it.
    with told_in_one_line():
        check_can_push(training)
        sharing = recipe.sharing(usual_language=["en"] * (recipe.dataset is None))
        for args in arguments.values():
            options: Any = args.loss_kwargs or {}
            get_loss(args.loss, **options)
    use_cpu_cores(recipe.cpu_threads)
    runs: list[Run] = []
    pairs: ExampleSplits | None = None
    for name, args in arguments.items():
        with told_in_one_line(PushError):
            # The others start as the first does.
            model, processor, pairs = open_run(recipe, args, pairs)
            trainer = make_trainer(model, processor, args, pairs)
        runs.append(train_and_test(trainer, pairs.test, name=name, measure_before=args is training))
    assert pairs is not None
    folder = save_runs(
        runs,
        dataset=recipe.dataset or "embedded scenes",
        base_model=recipe.model,
        train_rows=None if isinstance(pairs.train, ExampleStream) else len(pairs.train),
        pairs=pairs,
        sharing=sharing,
    )
    trainer = runs[0].trainer
    if trainer.is_world_process_zero():
        print(f"\n{len(pairs.test)} test pairs, each a candidate for each:\n")
        results = [run.result for run in runs]
        # New weights and heads have the measures of chance before.
        print(result_table([*before_training(results[0]), *results] if recipe.model else results))
        print(f"\nSaved in {folder}: model, processor, metrics.json, geometry.png and README.md, its card.")
        # Not where the command would measure other rows.
        same_rows = not (recipe.streaming and pairs.test.name.startswith("held-out"))
        compare = str(runs[1].trainer.args.output_dir) if len(runs) > 1 else None
        options = data_options(recipe, pairs) | {"compare": compare, "output": str(folder / "diagnosis")}
        push_to = None if training.push_to_hub else training.hub_model_id or f"your-name/{folder.name}"
        print(f"\n{next_steps(folder, diagnose=options if same_rows else None, push_to=push_to)}")
        print(f"\nFrom Python:\n\n{export_metadata(folder).snippet}")
    pushed = push_run(trainer, folder)
    trainer.end()
    if not pushed:
        raise SystemExit(NOT_PUSHED)


if __name__ == "__main__":
    types = (RecipeArguments, ContrastiveTrainingArguments)
    about = f"{__doc__}\nLosses: {', '.join(loss.name for loss in list_losses())}."
    with told_in_one_line():
        parsed = parse_recipe(*types, default_config=default_config(sys.argv[1:]), description=about)
    main(*parsed)
