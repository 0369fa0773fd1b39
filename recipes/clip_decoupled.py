"""Train or fine-tune an image-text dual encoder with a decoupled objective, measure it, share it.

Without arguments, a small CLIP learns the embedded scenes in minutes on a CPU:

    accelerate launch recipes/clip_decoupled.py --compare clip

Your data, your model, your name on the Hub (any argument may also stand in a YAML file, see recipes/configs):

    accelerate launch recipes/clip_decoupled.py recipes/configs/finetune.yaml --model openai/clip-vit-base-patch32 \
        --dataset your-org/captioned-images --push_to_hub --hub_model_id your-name/your-encoder
"""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedModel, ProcessorMixin, set_seed

from hf_contrastive import (
    ContrastiveTrainer,
    ContrastiveTrainingArguments,
    PushError,
    SmallCLIPSize,
    load_dual_encoder,
    load_pairs,
    parse_recipe,
    result_table,
    small_clip,
)
from hf_contrastive.data import PairSplits, PairStream
from hf_contrastive.export import export_metadata
from hf_contrastive.hub import check_can_push, push_folder
from hf_contrastive.report import Sharing, check_card
from hf_contrastive.run import save_runs, train_and_test, use_cpu_cores, with_other_loss


# Exit code of a run that is complete on disk and not, or not whole, on the Hub: EX_TEMPFAIL of sysexits.h.
NOT_PUSHED = 75
DEFAULTS = Path(__file__).parent / "configs" / "clip_decoupled.yaml"


@dataclass(frozen=True, kw_only=True)
class RecipeArguments(SmallCLIPSize):
    """What to train on what. The fields of [`SmallCLIPSize`] shape the small model, where no other is named."""

    dataset: str | None = field(
        default=None,
        metadata={
            "help": "Hub id, folder, parquet/JSON/CSV/tar files such as data/{00..07}.tar, or loader. By default the scenes."
        },
    )
    streaming: bool = field(
        default=False, metadata={"help": "Read the training data while training. Needs --max_steps."}
    )
    shuffle_buffer: int = field(
        default=10_000, metadata={"help": "Rows of a stream that are shuffled with each other; 0 for none."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of the dataset."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder for a loader such as imagefolder."})
    image_column: str = field(default="image", metadata={"help": "Column with the images."})
    caption_column: str | None = field(
        default=None,
        metadata={"help": "Column with a caption or a list of captions, one of which is drawn per epoch."},
    )
    train_split: str = field(default="train", metadata={"help": "Split to train on."})
    validation_split: str | None = field(default=None, metadata={"help": "Split for evaluation while training."})
    test_split: str | None = field(default=None, metadata={"help": "Split that the final numbers are from."})
    where: str | None = field(default=None, metadata={"help": "Keep the rows where this boolean column is true."})
    id_column: str | None = field(
        default=None,
        metadata={"help": "Column telling which rows show the same: they are no negatives of each other."},
    )
    on_bad_row: str = field(
        default="raise",
        metadata={"help": "What becomes of training rows that cannot be used, of a stream too: raise or skip."},
    )
    max_test_rows: int | None = field(default=None, metadata={"help": "Size of the test pool at most."})
    model: str | None = field(
        default=None, metadata={"help": "Dual encoder to fine-tune, a Hub id or folder. By default a small new CLIP."}
    )
    compare: list[str] = field(
        default_factory=list, metadata={"help": "Losses to train the same model with, for the table: --compare clip."}
    )
    license: str | None = field(
        default=None,
        metadata={"help": "Licence of the model in its card, such as apache-2.0. By default none is chosen."},
    )
    license_name: str | None = field(default=None, metadata={"help": "Name of a licence that is none of the Hub's."})
    license_link: str | None = field(default=None, metadata={"help": "Where the text of that licence is."})
    language: list[str] = field(default_factory=list, metadata={"help": "Languages of the captions: --language en."})
    benchmark_task: str | None = field(
        default=None, metadata={"help": "Task of --dataset, a benchmark of the Hub: its score goes to .eval_results."}
    )
    benchmark_metric: str = field(
        default="retrieval/image_to_text_recall@1", metadata={"help": "The measure that is the benchmark's score."}
    )
    cpu_threads: int | None = field(default=None, metadata={"help": "Threads per process. By default all cores."})


def build_model(recipe: RecipeArguments, pairs: PairSplits, seed: int) -> tuple[PreTrainedModel, ProcessorMixin]:
    """The model to train, the same at every call with one seed."""
    set_seed(seed)
    return load_dual_encoder(recipe.model) if recipe.model else small_clip(pairs.train.captions, recipe)


def load_recipe_pairs(recipe: RecipeArguments, training: ContrastiveTrainingArguments) -> PairSplits:
    """The data of the recipe; the first process of a machine prepares it for the others."""
    with training.main_process_first(desc="loading the data"):
        return load_pairs(
            recipe.dataset,
            config=recipe.dataset_config,
            data_dir=recipe.data_dir,
            image_column=recipe.image_column,
            caption_column=recipe.caption_column,
            train_split=recipe.train_split,
            validation_split=recipe.validation_split,
            test_split=recipe.test_split,
            where=recipe.where,
            id_column=recipe.id_column,
            max_test_rows=recipe.max_test_rows,
            on_bad_row=recipe.on_bad_row,
            seed=training.seed,
            streaming=recipe.streaming,
            buffer_size=recipe.shuffle_buffer,
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


def diagnose_command(recipe: RecipeArguments, folder: Path, others: Sequence[str]) -> str | None:
    """The command line that diagnoses the trained model; none for data that it cannot name."""
    if recipe.data_dir or recipe.where:
        return None
    options = {
        "compare": others[0] if others else None,
        "dataset": recipe.dataset,
        "config": recipe.dataset_config,
        "split": recipe.test_split if recipe.dataset else None,
        "image_column": recipe.image_column if recipe.dataset else None,
        "text_column": recipe.caption_column if recipe.dataset else None,
        "id_column": recipe.id_column,
        "output": str(folder / "diagnosis"),
    }
    given = [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]
    return command_line("diagnose", str(folder), *given)


def command_line(*words: str) -> str:
    """A command line of `hf-contrastive` that can be pasted."""
    # In an environment that is not activated, as that of `make train`, the program is beside its Python.
    beside = Path(sys.executable).parent / "hf-contrastive"
    found = shutil.which("hf-contrastive") is None and beside.exists()
    return shlex.join([os.path.relpath(beside) if found else "hf-contrastive", *words])


def main(recipe: RecipeArguments, training: ContrastiveTrainingArguments) -> None:
    check_can_push(training)
    # Before any training, as a wrong licence would otherwise be told after it.
    sharing = Sharing(
        license=recipe.license,
        license_name=recipe.license_name,
        license_link=recipe.license_link,
        language=recipe.language or ([] if recipe.dataset else ["en"]),
        benchmark_task=recipe.benchmark_task,
        benchmark_metric=recipe.benchmark_metric,
    )
    use_cpu_cores(recipe.cpu_threads)
    pairs = load_recipe_pairs(recipe, training)
    arguments = {training.loss: training} | {loss: with_other_loss(training, loss) for loss in recipe.compare}
    runs = [
        # The others start as the first does.
        train_and_test(*build_model(recipe, pairs, args.seed), args, pairs, name=name, measure_before=args is training)
        for name, args in arguments.items()
    ]
    folder = save_runs(
        runs,
        dataset=recipe.dataset or "embedded scenes",
        base_model=recipe.model,
        train_rows=None if isinstance(pairs.train, PairStream) else len(pairs.train),
        pairs=pairs,
        sharing=sharing,
    )

    trainer = runs[0].trainer
    if trainer.is_world_process_zero():
        print(f"\n{len(pairs.test)} test pairs, each a candidate for each:\n")
        print(result_table([run.result for run in runs]))
        if command := diagnose_command(recipe, folder, [str(run.trainer.args.output_dir) for run in runs[1:]]):
            print(f"\nA page that shows what parts the modalities, and what can be done, in a minute:\n\n{command}")
        export = command_line("export", str(folder), f"{folder}_export")
        print(f"\nThe model for people without this package, and for SentenceTransformer:\n\n{export}")
        print(f"\nSaved in {folder}: model, processor, metrics.json, geometry.png, README.md. Use it with\n")
        print(export_metadata(folder).snippet)
    pushed = push_run(trainer, folder)
    trainer.end()
    if not pushed:
        raise SystemExit(NOT_PUSHED)


if __name__ == "__main__":
    main(*parse_recipe(RecipeArguments, ContrastiveTrainingArguments, default_config=DEFAULTS))
