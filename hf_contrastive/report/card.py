"""The model card, with the numbers of the run in it."""

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from hf_contrastive import __version__
from hf_contrastive.losses import list_losses
from hf_contrastive.metrics.measures import PREFIX
from hf_contrastive.report.result import RunResult
from hf_contrastive.report.table import geometry_table, result_table


if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

    from hf_contrastive.training.training_args import ContrastiveTrainingArguments


PACKAGES = ("torch", "transformers", "datasets", "accelerate")


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What a card says of a run beyond its measures.

    Args:
        dataset: Name of the data.
        train_rows: Number of training pairs, None for a stream of them.
        base_model: Hub id or folder of the model that was fine-tuned, or None.
        modalities: Names of the modalities.
        model_type: `model_type` of the configuration, which decides the pipeline.
    """

    dataset: str
    train_rows: int | None
    base_model: str | None
    modalities: tuple[str, ...]
    model_type: str

    @property
    def hub_base_model(self) -> str | None:
        """The base model if it has a page on the Hub: a folder's path means nothing to others, and may be private."""
        name = self.base_model or ""
        local = name.startswith((".", "/", "~")) or Path(name).exists()
        return None if local or not name else name


def write_model_card(
    folder: str | Path,
    results: Sequence[RunResult],
    args: "ContrastiveTrainingArguments",
    facts: TrainingFacts,
    *,
    picture: str | None = None,
) -> None:
    """
    Write `README.md` into the folder of a trained model.

    Args:
        folder (`str` or `Path`):
            Folder of the model.
        results (`list[RunResult]`):
            The model's own run first, then those that it is compared with.
        args (`ContrastiveTrainingArguments`):
            Arguments of the run.
        facts (`TrainingFacts`):
            Data and model.
        picture (`str`, *optional*):
            Plot in the same folder.
    """
    from huggingface_hub import ModelCard

    own = results[0]
    info = next((info for info in list_losses() if own.loss.startswith(info.cls.__name__ + "(")), None)
    name = (args.hub_model_id or Path(folder).resolve().name).rpartition("/")[2]
    card = ModelCard.from_template(
        _metadata(name, own, facts, info.name if info else "custom"),
        template_str=files("hf_contrastive").joinpath("templates/model_card.md").read_text(encoding="utf-8"),
        model_name=name,
        modalities=facts.modalities,
        base_model=facts.hub_base_model,
        from_scratch=facts.base_model is None,
        loss=own.loss,
        loss_name=info.name if info else own.loss,
        loss_summary=info.summary if info else "a loss of the author's own",
        paper=info.paper if info else None,
        picture=picture,
        snippet=usage_snippet(args.hub_model_id or str(folder)),
        table=result_table(results),
        geometry=geometry_table(results),
        sampled_rows=_count(own, "quadratic_rows"),
        tested_rows=_count(own, "gaussianity_rows"),
        test_rows=own.test_rows,
        dataset=facts.dataset,
        train_rows=facts.train_rows,
        steps=own.steps,
        batch_size=own.batch_size,
        logit_scale=own.metrics["logit_scale"],
        scale_kind="scheduled" if args.logit_scale_schedule else "learned" if args.learn_logit_scale else "fixed",
        optimizer=str(getattr(args.optim, "value", args.optim)),
        learning_rate=args.learning_rate,
        weight_decay=args.weight_decay,
        seed=own.seed,
        versions=f"Python {platform.python_version()}, hf_contrastive {__version__}, "
        + ", ".join(f"{p} {version(p)}" for p in PACKAGES),
    )
    card.save(Path(folder) / "README.md")


def _count(result: RunResult, name: str) -> int | None:
    """The most rows of a modality that the result names."""
    counts = [value for key, value in result.metrics.items() if key.startswith(f"{PREFIX}{name}_")]
    return int(max(counts)) if counts else None


def usage_snippet(model: str) -> str:
    """Python lines that load a saved dual encoder and compare an image with two texts."""
    return "\n".join(
        [
            "from PIL import Image",
            "from transformers import AutoModel, AutoProcessor",
            "",
            f"model = AutoModel.from_pretrained({json.dumps(model)})",
            f"processor = AutoProcessor.from_pretrained({json.dumps(model)})",
            'image = Image.new("RGB", (64, 64), "green")  # yours: Image.open("picture.png")',
            'texts = ["a red star on grass", "a blue ring at night"]',
            'inputs = processor(images=image, text=texts, return_tensors="pt", padding=True, truncation=True)',
            "print(model(**inputs).logits_per_image.softmax(dim=-1))",
        ]
    )


def _metadata(name: str, own: RunResult, facts: TrainingFacts, loss: str) -> "ModelCardData":
    from huggingface_hub import EvalResult, ModelCardData

    zero_shot = facts.model_type in ("clip", "siglip", "siglip2", "altclip", "chinese_clip", "align")
    measures = {
        key: value for key, value in own.metrics.items() if key.startswith(("retrieval/", "geometry/modality"))
    }
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="zero-shot-image-classification" if zero_shot else "feature-extraction",
        tags=["hf_contrastive", "contrastive-learning", "dual-encoder", f"loss:{loss}"],
        base_model=facts.hub_base_model,
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="image-text-retrieval",
                dataset_type=facts.dataset,
                dataset_name=facts.dataset,
                dataset_split="test",
                metric_type=key.replace("/", "_"),
                metric_name=key,
                metric_value=round(value, 4),
            )
            for key, value in measures.items()
        ],
    )
