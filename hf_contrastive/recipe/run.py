"""One run of a recipe: train, test, and put everything that people want to see in one folder."""

import copy
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin
from transformers.utils import logging

from hf_contrastive.data.collator import ContrastiveCollator
from hf_contrastive.data.examples import ExampleDataset
from hf_contrastive.data.loading import ExampleSplits
from hf_contrastive.report.card import write_model_card
from hf_contrastive.report.facts import Sharing
from hf_contrastive.report.plots import plot_geometry
from hf_contrastive.report.result import RunResult, write_results
from hf_contrastive.training.checkpoints import asks_for_the_last, has_checkpoints, resolve_checkpoint
from hf_contrastive.training.figures import measures_in
from hf_contrastive.training.micro_batches import rows_of_all_processes
from hf_contrastive.training.replacing import replaced
from hf_contrastive.training.run_facts import training_facts
from hf_contrastive.training.trainer import ContrastiveTrainer
from hf_contrastive.training.training_args import ContrastiveTrainingArguments


logger = logging.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A trained model, what it measured on the test pool, and the embeddings that were measured."""

    trainer: ContrastiveTrainer
    result: RunResult
    embeds: Mapping[str, Tensor]


def make_trainer(
    model: PreTrainedModel, processor: ProcessorMixin, args: ContrastiveTrainingArguments, pairs: ExampleSplits
) -> ContrastiveTrainer:
    """
    The trainer of an encoder of two or more modalities.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The model, trained in place.
        processor ([`~transformers.ProcessorMixin`]):
            Its processor.
        args ([`ContrastiveTrainingArguments`]):
            Arguments of the run.
        pairs ([`ExampleSplits`]):
            The data.

    Raises:
        ValueError: They do not go together, or there is no checkpoint where `args` resume from.
        PushError: The Hub is to be pushed to and refuses.
    """
    if _resumes(args):
        resolve_checkpoint(args.resume_from_checkpoint, str(args.output_dir))
    return ContrastiveTrainer(
        model,
        args,
        train_dataset=pairs.train,
        eval_dataset=pairs.validation,
        data_collator=ContrastiveCollator.for_model(
            model, processor, id_column="id" if pairs.train.id_column else None
        ),
        processing_class=processor,
    )


def train_and_test(
    trainer: ContrastiveTrainer, test: ExampleDataset, *, name: str, measure_before: bool = False
) -> Run:
    """
    Train a model and measure it.

    Args:
        trainer ([`ContrastiveTrainer`]):
            Its trainer, see [`make_trainer`].
        test ([`ExampleDataset`]):
            What to measure it on.
        name (`str`):
            What tables and plots call the run.
        measure_before (`bool`, *optional*, defaults to `False`):
            Whether to measure the model before training too. Training is the same either way. Not where FSDP or
            DeepSpeed hold the weights.

    Raises:
        SystemExit: The process was told to end (SIGTERM, with `enable_jit_checkpoint`). A checkpoint is there.
    """
    args: Any = trainer.args
    before = _measure_before(trainer, test) if measure_before else None
    start = time.perf_counter()
    if args.resume_from_checkpoint and not _resumes(args):
        logger.warning(f"There is no checkpoint in {str(args.output_dir)!r} yet: training starts at the beginning.")
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint if _resumes(args) else None)
    if trainer.terminated:
        # What follows would measure and save half a training as if it were whole.
        logger.warning("The process was told to end. Go on with `--resume_from_checkpoint true`.")
        raise SystemExit(128 + signal.SIGTERM)
    seconds = time.perf_counter() - start
    # The weights that are saved, which with `save_ema` are the averages by now.
    with replaced(args, evaluate_ema=False):
        prediction = trainer.predict(test)
    result = RunResult(
        name=name,
        loss=repr(trainer.loss),
        metrics=measures_in(prediction.metrics, "test"),
        train_seconds=seconds,
        steps=trainer.state.global_step,
        batch_size=rows_of_all_processes(args),
        seed=args.seed,
        test_rows=len(test),
        before=before,
        resumed_at=trainer.resumed_at,
    )
    embeds = dict(zip(trainer.modalities, map(torch.from_numpy, prediction.predictions), strict=True))
    return Run(trainer=trainer, result=result, embeds=embeds)


def _resumes(args: ContrastiveTrainingArguments) -> bool:
    """Whether a run goes on from a checkpoint. A job that is started again and again says `true` the first time too."""
    resume = args.resume_from_checkpoint
    return bool(resume) and (not asks_for_the_last(resume) or has_checkpoints(str(args.output_dir)))


def _measure_before(trainer: ContrastiveTrainer, test: ExampleDataset) -> dict[str, float] | None:
    """Measures of the model as it comes; training then goes as it would have without. None where weights are sharded."""
    if trainer.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        # Both wrap a model for good at its first use, for evaluation in another way than for training.
        return None
    return measures_in(trainer.predict(test).metrics, "test")


def with_other_loss(args: ContrastiveTrainingArguments, loss: str) -> ContrastiveTrainingArguments:
    """The same run with another loss at its defaults, in a folder of its own and never pushed."""
    other = copy.copy(args)
    other.loss, other.loss_kwargs, other.push_to_hub = loss, None, False
    other.output_dir = str(Path(str(args.output_dir)) / f"compare_{loss}")
    # Another loss does not go on from this one's checkpoint.
    other.resume_from_checkpoint = "true" if asks_for_the_last(args.resume_from_checkpoint) else None
    return other


def save_runs(
    runs: Sequence[Run],
    *,
    dataset: str | Sequence[str],
    base_model: str | None,
    train_rows: int | None,
    pairs: ExampleSplits | None = None,
    sharing: Sharing | None = None,
) -> Path:
    """
    Save the first run's model with its processor, measures, picture and card; further runs are compared in them.

    Every process calls it, the main one writes.

    Args:
        runs (`list[Run]`):
            The runs, the one to share first.
        dataset (`str` or `list[str]`):
            What to call the data, a Hub id where it has one; several, if they were mixed.
        base_model (`str`):
            Model that was fine-tuned, if any.
        train_rows (`int`):
            Number of training pairs, None for a stream.
        pairs ([`ExampleSplits`], *optional*):
            The data, for the name of the split that was measured.
        sharing ([`Sharing`], *optional*):
            Licence, language and benchmark, which only the author knows.

    Returns:
        `Path`: The folder, `output_dir` of the first run.
    """
    for run in runs:
        # Not a user's call, which with `push_to_hub` would upload the folder before it is complete.
        run.trainer.save_model(_internal_call=True)
        run.trainer.save_state()
    own = runs[0].trainer
    folder = Path(str(own.args.output_dir))
    if own.is_world_process_zero():
        results = [run.result for run in runs]
        write_results(results, folder / "metrics.json")
        plot_geometry(by_pair(runs), folder / "geometry.png")
        facts = training_facts(
            own,
            dataset=dataset,
            base_model=base_model,
            train_rows=train_rows,
            test=pairs and pairs.test,
            sharing=sharing,
        )
        write_model_card(folder, results, own.args, facts, picture="geometry.png")
    own.step_of_card = own.state.global_step
    own.accelerator.wait_for_everyone()
    return folder


def by_pair(runs: Sequence[Run]) -> dict[str, dict[str, Tensor]]:
    """The embeddings of the runs, two modalities at a time, under the name of the run and, of several pairs, of these."""
    pairs = {}
    for run in runs:
        several = len(run.embeds) > 2
        for first, second in combinations(sorted(run.embeds), 2):
            name = f"{run.result.name}\n{first} and {second}" if several else run.result.name
            pairs[name] = {first: run.embeds[first], second: run.embeds[second]}
    return pairs


def use_cpu_cores(threads: int | None = None) -> None:
    """Let torch use `threads` threads, by default an equal share of the cores for each process of this machine.

    `accelerate launch` sets one thread per process unless told otherwise, which leaves all other cores idle.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) // processes))
