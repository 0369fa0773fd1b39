"""The model card, with the numbers of the run in it."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from transformers.utils import logging

from hf_contrastive.metrics.measures import PREFIX
from hf_contrastive.report import front_matter
from hf_contrastive.report.checking import CARD
from hf_contrastive.report.eval_results import benchmark_results, write_eval_results
from hf_contrastive.report.facts import Sharing, TrainingFacts
from hf_contrastive.report.hub_schema import metadata_faults
from hf_contrastive.report.limits import limits
from hf_contrastive.report.merging import MergedCard, merge_cards, seal
from hf_contrastive.report.metadata import build_metadata, pipeline_of
from hf_contrastive.report.objective import Objective, bibtex
from hf_contrastive.report.privacy import scrub
from hf_contrastive.report.result import RunResult
from hf_contrastive.report.snippets import snippets
from hf_contrastive.report.table import geometry_table, result_table
from hf_contrastive.report.training_rows import inline, training_rows


if TYPE_CHECKING:
    from hf_contrastive.training.training_args import ContrastiveTrainingArguments


logger = logging.get_logger(__name__)


def write_model_card(
    folder: str | Path,
    results: Sequence[RunResult],
    args: "ContrastiveTrainingArguments",
    facts: TrainingFacts,
    *,
    picture: str | None = None,
) -> MergedCard:
    """
    Write `README.md` into the folder of a trained model, and `.eval_results` if it was measured on a benchmark.

    What people wrote into a card that is there already is kept, see [`update_card`].

    Args:
        folder (`str` or `Path`):
            Folder of the model.
        results (`list[RunResult]`):
            The model's own run first, then those that it is compared with.
        args (`ContrastiveTrainingArguments`):
            Arguments of the run.
        facts ([`TrainingFacts`]):
            Data and model.
        picture (`str`, *optional*):
            Plot in the same folder.

    Returns:
        `MergedCard`: The card, and what of the old one was kept.

    Raises:
        ValueError: The metadata is not what the Hub takes.
    """
    text = render_card(folder, results, args, facts, picture=picture)
    if faults := metadata_faults(front_matter.load(front_matter.split(text)[0])):
        raise ValueError("\n".join(faults))
    write_eval_results(folder, benchmark_results(results[0], facts))
    return update_card(folder, text)


def update_card(folder: str | Path, new: str, *, old: str | None = None) -> MergedCard:
    """
    Put a generated card into a folder, keeping what people wrote into the old one.

    Sections that nobody edited are replaced, and so is metadata; edited ones, texts between them and metadata that
    people added stay, and a warning says which. See [`~hf_contrastive.report.merging.merge_cards`].

    Args:
        folder (`str` or `Path`):
            Folder of the model.
        new (`str`):
            The generated card, see [`render_card`].
        old (`str`, *optional*):
            The card to keep edits of, such as the one on the Hub. By default the folder's own.

    Returns:
        `MergedCard`: The card that was written, and what was kept.
    """
    path = Path(folder) / CARD
    if old is None and path.is_file():
        old = path.read_text(encoding="utf-8")
    merged = MergedCard(new)
    if old is not None and old.strip():
        try:
            merged = merge_cards(old, new)
        except ValueError as error:
            spare = path.with_name("README.old.md")
            spare.write_text(old, encoding="utf-8")
            merged = MergedCard(new, (f"The old card could not be read and is now {spare.name}: {error}",))
    path.write_text(merged.text, encoding="utf-8")
    for sentence in merged.kept:
        logger.warning(f"{CARD}: {sentence}")
    return merged


def render_card(
    folder: str | Path,
    results: Sequence[RunResult],
    args: "ContrastiveTrainingArguments",
    facts: TrainingFacts,
    *,
    picture: str | None = None,
) -> str:
    """The text of a generated card, see [`write_model_card`] for the arguments. It names no place of this machine."""
    from huggingface_hub import ModelCard

    own = results[0]
    objective = facts.objective or Objective.read(own.loss)
    name = (args.hub_model_id or Path(folder).resolve().name).rpartition("/")[2]
    before = None if own.before is None else replace(own, name="before", metrics=own.before, train_seconds=0.0)
    card = ModelCard.from_template(
        build_metadata(name, own, facts, objective),
        template_str=files("hf_contrastive").joinpath("templates/model_card.md").read_text(encoding="utf-8"),
        model_name=name,
        headline=_headline(own),
        modalities=facts.modalities,
        base_models=facts.hub_base_models,
        from_scratch=facts.from_scratch,
        objective=objective,
        citations=[bibtex(paper) for paper in objective.papers],
        picture=picture,
        geometry=geometry_table(results),
        sampled_rows=_count(own, "quadratic_rows"),
        tested_rows=_count(own, "gaussianity_rows"),
        plain=facts.plain,
        local=not args.hub_model_id,
        snippets=snippets(
            args.hub_model_id or ".",
            modalities=facts.modalities,
            zero_shot=pipeline_of(facts) == "zero-shot-image-classification",
            plain=facts.plain,
            model_type=facts.model_type,
            kinds=facts.kinds,
        ),
        table=result_table([*([before] if before else []), *results]),
        before=before is not None,
        test_rows=own.test_rows,
        test_split=facts.test_split,
        dataset=inline(facts.dataset_name),
        limits=limits(results, facts, max_logit_scale=args.max_logit_scale),
        license_text=_license(facts.sharing),
        **training_rows(own, args, facts, objective),
    )
    return seal(scrub(str(card), secrets=[args.hub_token]))


def _count(result: RunResult, name: str) -> int | None:
    """The most rows of a modality that the result names."""
    counts = [value for key, value in result.metrics.items() if key.startswith(f"{PREFIX}{name}_")]
    return int(max(counts)) if counts else None


def _headline(own: RunResult) -> str:
    recalls = [
        f"R@1 {value:.3f} {key.removeprefix('retrieval/').removesuffix('_recall@1').replace('_', ' ')}"
        for key, value in own.metrics.items()
        if key.endswith("recall@1")
    ]
    gaps = [
        f"modality gap {value:.3f}"
        for key, value in own.metrics.items()
        if key.startswith("geometry/modality_gap_") and "floor" not in key
    ]
    return f"{', '.join([*recalls, *gaps]) or 'nothing was measured'}, among {own.test_rows:,} candidates"


def _license(sharing: Sharing) -> str:
    if sharing.license in (None, "unknown"):
        return (
            "No licence was chosen for this model: whoever wants to use it must ask its author. The data and the base "
            "model may have terms of their own."
        )
    link = f"[{sharing.license_name or sharing.license}]({sharing.license_link})" if sharing.license_link else None
    return f"{link or f'`{sharing.license_name or sharing.license}`'}, as chosen by the author."
