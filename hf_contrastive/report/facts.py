"""What a card says of a run beyond its measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hf_contrastive.report.hub_schema import check_licence
from hf_contrastive.report.names import is_on_hub, public_name
from hf_contrastive.report.objective import Objective


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """What only the author can say of a model, for its card.

    Args:
        license: Identifier of the model's licence on the Hub. Without one the card says that none was chosen.
        license_name: Name of a licence that the Hub does not list, with `license="other"`.
        license_link: Where its text is: a file of the repository or an address.
        language: ISO 639 codes of the texts' languages.
        benchmark_task: Identifier of the task in the `eval.yaml` of the dataset, where this is a benchmark registered on
            the Hub.
        benchmark_metric: The measure that is this benchmark's score.

    Raises:
        ValueError: The licence is none of the Hub's, or `other` without a name.
    """

    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    language: Sequence[str] = ()
    benchmark_task: str | None = None
    benchmark_metric: str = "retrieval/image_to_text_recall@1"

    def __post_init__(self) -> None:
        if faults := check_licence(self.license, self.license_name, self.license_link):
            raise ValueError(faults[0])


@dataclass(frozen=True, kw_only=True)
class TowerFacts:
    """
    One encoder of a model, as a card shows it.

    Args:
        modality: What it embeds.
        encoder: Its class.
        parameters: Number of them, with those of its projection.
        trainable: How many were trained.
        pooling: How many vectors become one, in words.
        projection: What follows, in words.
        kind: Of a model that takes raw values, what kind: `"text"`, `"image"`, `"audio"` or `"embedding"`.
        base: Model that the weights came from, `"."` for one of a folder, None for new ones.
        shared_with: Modality whose encoder it is, where two share one.
    """

    modality: str
    encoder: str
    parameters: int
    trainable: int
    pooling: str
    projection: str
    kind: str | None = None
    base: str | None = None
    shared_with: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What a card says of a run beyond its measures.

    Args:
        dataset: Hub id, folder or file of the data, or what to call it; several, if they were mixed.
        train_rows: Number of training pairs, None for a stream of them.
        base_model: Hub id or folder of the model that was fine-tuned, or None.
        modalities: Names of the modalities.
        model_type: `model_type` of the configuration.
        zero_shot: Whether the pipeline of zero-shot image classification runs on the model. By default as `model_type` tells.
        model_class: Class of the model.
        plain: Whether `transformers` alone can load it.
        towers: Its encoders.
        objective: The loss. By default what the first result's `loss` tells.
        dataset_fingerprint: Hash of the training rows, see [`~hf_contrastive.data.fingerprint.fingerprint`].
        dataset_license: What the dataset says of its licence.
        test_split: Name of the split that was measured, None for rows that were held out of the training data.
        test_dataset: What to call the data that was measured, where it is another than that of training.
        adapter: What was trained and saved instead of a whole model, in words, such as `"LoRA of rank 8"`.
        dtype: What the weights are in.
        best_step: Step that the weights are of, where they are those of the best checkpoint and not of the last step.
        biases: Bias at the end, or those of the pairs of modalities, where the objective reads them.
        negatives: Numbers of the audit, `audit/...`, where there was one.
        hardware: What it was trained on.
        processes: Number of processes.
        inputs: Limits of what can be put in, such as the number of tokens, in words.
        sharing: What the author says.
        tags: Further tags of the author's.
    """

    dataset: str | Sequence[str]
    train_rows: int | None
    base_model: str | None
    modalities: tuple[str, ...]
    model_type: str
    zero_shot: bool | None = None
    model_class: str = ""
    plain: bool = True
    towers: tuple[TowerFacts, ...] = ()
    objective: Objective | None = None
    dataset_fingerprint: str | None = None
    dataset_license: str | None = None
    test_split: str | None = "test"
    test_dataset: str | None = None
    adapter: str | None = None
    dtype: str = "float32"
    best_step: int | None = None
    biases: tuple[float, ...] = ()
    negatives: Mapping[str, float] = field(default_factory=dict)
    hardware: str | None = None
    processes: int = 1
    inputs: tuple[str, ...] = ()
    sharing: Sharing = field(default_factory=Sharing)
    tags: tuple[str, ...] = ()

    @property
    def from_scratch(self) -> bool:
        """Whether training began with new weights alone."""
        return self.base_model is None and all(tower.base is None for tower in self.towers)

    @property
    def hub_base_models(self) -> tuple[str, ...]:
        """The base model, or those of the towers, with a page on the Hub: a folder's path means nothing to others."""
        names = [self.base_model] if self.base_model is not None else [tower.base for tower in self.towers]
        return tuple(dict.fromkeys(str(name) for name in names if is_on_hub(name)))

    @property
    def rows(self) -> str:
        """What to call rows of the data."""
        return "pairs" if len(self.modalities) == 2 else "rows"

    @property
    def is_joined(self) -> bool:
        """Whether the model is a [`MultiEncoder`], whose class comes with this package."""
        return self.model_type == "multi_encoder"

    @property
    def kinds(self) -> dict[str, str]:
        """What kind of raw values each modality is, of a model that takes them."""
        return {tower.modality: tower.kind for tower in self.towers if tower.kind is not None}

    @property
    def datasets(self) -> dict[str, str | None]:
        """What to call the data, and its page on the Hub where it has one. Files are called by the end of their path."""
        names = (self.dataset,) if isinstance(self.dataset, str) else self.dataset
        # A name without an owner may be anything, a loader of `datasets` as well.
        return {public_name(name): name if "/" in name and is_on_hub(name) else None for name in names}

    @property
    def hub_datasets(self) -> list[str]:
        """Those of the datasets that have a page on the Hub."""
        return [page for page in self.datasets.values() if page is not None]

    @property
    def hub_dataset(self) -> str | None:
        """The dataset if it is one, with a page on the Hub."""
        return self.hub_datasets[0] if len(self.hub_datasets) == len(self.datasets) == 1 else None

    @property
    def dataset_name(self) -> str:
        """What to call the data."""
        return " and ".join(self.datasets)

    @property
    def measured_dataset(self) -> str:
        """What to call the data that was measured."""
        return self.dataset_name if self.test_dataset is None else public_name(self.test_dataset)
