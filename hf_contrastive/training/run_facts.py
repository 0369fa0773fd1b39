"""What a card says of a finished run beyond its measures, read from the trainer."""

import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from torch import nn
from torch.distributed.tensor import DTensor

from hf_contrastive.data.examples import ExampleDataset
from hf_contrastive.data.fingerprint import fingerprint
from hf_contrastive.distributed import world_size
from hf_contrastive.losses import uses_bias
from hf_contrastive.pair_scales import BIAS
from hf_contrastive.report.facts import Sharing, TrainingFacts
from hf_contrastive.report.metadata import zero_shot_runs
from hf_contrastive.report.objective import Objective
from hf_contrastive.report.towers import describe_adapter, describe_inputs, describe_towers
from hf_contrastive.towers.find import base_model as base_model_of


if TYPE_CHECKING:
    from hf_contrastive.training.trainer import ContrastiveTrainer


def training_facts(
    trainer: "ContrastiveTrainer",
    *,
    dataset: str | Sequence[str],
    base_model: str | None,
    train_rows: int | None,
    test: Any = None,
    sharing: Sharing | None = None,
    tags: Sequence[str] = (),
) -> TrainingFacts:
    """
    What a card says of a finished run beyond its measures.

    Args:
        trainer: Trainer of the run.
        dataset: What to call the training data, Hub ids where they have one.
        base_model: Model that was fine-tuned, if any.
        train_rows: Number of training rows, None for a stream.
        test: Rows that were measured.
        sharing: Licence, language and benchmark, which only the author knows.
        tags: Further tags.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    plain = base_model_of(model)
    towers = describe_towers(model)
    rows = plain_rows(trainer.train_dataset)
    return TrainingFacts(
        dataset=dataset,
        train_rows=train_rows,
        base_model=base_model,
        modalities=tuple(trainer.modalities) or tuple(sorted(tower.modality for tower in towers)),
        model_type=model.config.model_type,
        zero_shot=zero_shot_runs(model.config.to_dict()),
        model_class=type(plain).__name__,
        plain=type(plain).__module__.startswith("transformers."),
        adapter=describe_adapter(model),
        dtype=str(plain.dtype).removeprefix("torch."),
        biases=_biases(plain) if uses_bias(trainer.loss) else (),
        towers=towers,
        objective=Objective.of(trainer.loss),
        dataset_fingerprint=None if rows is None else fingerprint(rows),
        dataset_license=(rows.info.license or None) if rows is not None else None,
        negatives=audit_numbers(trainer.state.log_history),
        test_split=_split_of(test),
        hardware=describe_hardware(trainer.args.device),
        processes=world_size(),
        inputs=describe_inputs(
            model.config,
            getattr(trainer.data_collator, "processor", None) or trainer.processing_class,
            getattr(trainer.data_collator, "processor_kwargs", None),
        ),
        sharing=sharing or Sharing(),
        tags=tuple(tags),
    )


def _biases(model: nn.Module) -> tuple[float, ...]:
    """The bias of a model, or one for each pair of modalities; none where its parts lie elsewhere: evaluation has them."""
    bias = getattr(model, BIAS, None)
    if bias is None or isinstance(bias, DTensor) or hasattr(bias, "ds_id"):
        return ()
    return tuple(bias.detach().float().flatten().tolist())


def plain_rows(dataset: Any) -> Dataset | None:
    """The rows that a dataset reads, where they are a [`~datasets.Dataset`]."""
    rows = dataset.dataset if isinstance(dataset, ExampleDataset) else dataset
    return rows if isinstance(rows, Dataset) else None


def _split_of(test: Any) -> str | None:
    """The split that was measured, as its data is called; None for rows that were held out of the training split."""
    split, found, _ = str(getattr(test, "name", "")).partition(" split of the ")
    if found:
        return None if split == "held-out" else split
    rows = plain_rows(test)
    return str(rows.split) if rows is not None and rows.split is not None else "test"


def audit_numbers(logs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What the audit of negatives found at the start of a run, from its logs."""
    found = next((log for log in logs if "audit/negatives" in log), {})
    return {key: value for key, value in found.items() if key.startswith("audit/")}


def describe_hardware(device: torch.device) -> str:
    """The processors that a run had, without the machine's name."""
    if device.type == "cuda":
        return f"{world_size()} x {torch.cuda.get_device_name(device)}"
    if device.type != "cpu":
        return f"{world_size()} x {device.type}"
    threads = torch.get_num_threads()
    return f"CPU ({platform.machine()}), {threads} {'thread' if threads == 1 else 'threads'} a process"
