"""What a card says of a finished run beyond its measures, read from the trainer."""

import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset, DatasetInfo
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from hf_contrastive.data.examples import ExampleDataset
from hf_contrastive.data.fingerprint import fingerprint
from hf_contrastive.data.mixed_stream import MixedStream
from hf_contrastive.data.mixing import MixedDataset
from hf_contrastive.distributed import world_size
from hf_contrastive.losses import uses_bias
from hf_contrastive.pair_scales import BIAS, SCALE, scale_and_bias_fields
from hf_contrastive.report.facts import Sharing, TrainingFacts
from hf_contrastive.report.metadata import zero_shot_runs
from hf_contrastive.report.objective import Objective
from hf_contrastive.report.towers import describe_adapter, describe_inputs, describe_towers
from hf_contrastive.towers.find import base_model as base_model_of
from hf_contrastive.towers.find import class_of
from hf_contrastive.training.figures import step_of_weights


if TYPE_CHECKING:
    from hf_contrastive.training.trainer import ContrastiveTrainer


def training_facts(
    trainer: "ContrastiveTrainer",
    *,
    dataset: str | Sequence[str],
    base_model: str | None,
    train_rows: int | None,
    test: Any = None,
    test_dataset: str | None = None,
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
        test_dataset: What to call their data, where it is another than that of training.
        sharing: Licence, language and benchmark, which only the author knows.
        tags: Further tags.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    plain = base_model_of(model)
    towers = describe_towers(model)
    rows, info = plain_rows(trainer.train_dataset), _info_of(trainer.train_dataset)
    step = step_of_weights(trainer.state, trainer.args)
    return TrainingFacts(
        dataset=dataset,
        train_rows=train_rows,
        base_model=base_model,
        modalities=tuple(trainer.modalities) or tuple(sorted(tower.modality for tower in towers)),
        model_type=model.config.model_type,
        zero_shot=zero_shot_runs(model.config.to_dict()),
        model_class=class_of(plain).__name__,
        plain=class_of(plain).__module__.startswith("transformers."),
        adapter=describe_adapter(model),
        dtype=str(plain.dtype).removeprefix("torch."),
        biases=_biases(plain) if uses_bias(trainer.loss) else (),
        towers=towers,
        objective=Objective.of(trainer.loss),
        dataset_fingerprint=None if rows is None else fingerprint(rows),
        dataset_license=(info.license or None) if info is not None else None,
        negatives=audit_numbers(trainer.state.log_history),
        test_split=_split_of(test, trainer.train_dataset),
        test_dataset=test_dataset,
        best_step=None if step == trainer.state.global_step else step,
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
    """The bias of a model, or one for each pair of modalities; none where its parameters lie in parts elsewhere."""
    bias = _whole(getattr(model, BIAS, None))
    return () if bias is None else tuple(bias.flatten().tolist())


def scales_of(model: nn.Module, modalities: Sequence[str]) -> dict[str, float]:
    """Inverse temperature of a model and of each pair of modalities that has one; none where it lies in parts elsewhere."""
    scale = _whole(getattr(base_model_of(model), SCALE, None))
    if scale is None:
        return {}
    fields = scale_and_bias_fields(modalities, scale.exp().squeeze(), None)
    each = {f"{SCALE}/{'_'.join(pair)}": float(value) for pair, value in fields["pair_scales"].items()}
    return {SCALE: float(fields[SCALE])} | each


def _whole(parameter: Tensor | None) -> Tensor | None:
    """The values of a parameter; None if there is none, or FSDP or DeepSpeed hold them in parts."""
    if parameter is None or isinstance(parameter, DTensor) or not parameter.numel():
        return None
    return parameter.detach().float().cpu()


def names_of(dataset: Any) -> list[str]:
    """What to call data: as the parts of a mix are, or as `datasets` does where that says more than how it is stored."""
    if isinstance(dataset, MixedDataset | MixedStream):
        return list(dataset.names)
    info = _info_of(dataset)
    name = None if info is None else info.dataset_name or info.builder_name
    return [name] if name and name not in (*_PACKAGED_DATASETS_MODULES, "generator") else ["data of the author's own"]


def other_name_of(test: Any, train: Any) -> str | None:
    """What to call the data of `test`; None where that is what the training data is called, as far as is known."""
    parts = train.datasets if isinstance(train, MixedDataset) else {}
    found = next((name for name, part in parts.items() if part is test), " and ".join(names_of(test)))
    return None if found == " and ".join(names_of(train)) else found


def _info_of(dataset: Any) -> DatasetInfo | None:
    """What `datasets` knows of the rows or the stream that a dataset reads."""
    info = getattr(dataset, "info", None)
    return info if isinstance(info, DatasetInfo) else None


def plain_rows(dataset: Any) -> Dataset | None:
    """The rows that a dataset reads, where they are a [`~datasets.Dataset`]."""
    rows = dataset.dataset if isinstance(dataset, ExampleDataset) else dataset
    return rows if isinstance(rows, Dataset) else None


def _split_of(test: Any, train: Any) -> str | None:
    """The split that was measured, as its data is called; None for rows that were held out of the training split.

    `"evaluation"` if it is not known: parts of a split bear its name, so that of the training data's says nothing.
    """
    split, found, _ = str(getattr(test, "name", "")).partition(" split of the ")
    if found:
        return None if split == "held-out" else split
    known, of_train = (None if rows is None else rows.split for rows in map(plain_rows, (test, train)))
    return "evaluation" if known is None or (known == of_train and test is not train) else str(known)


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
