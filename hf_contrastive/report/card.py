"""The model card, with the numbers of the run in it."""

from collections.abc import Sequence
from importlib.resources import files
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from transformers.utils import logging

from hf_contrastive.metrics.measures import PREFIX
from hf_contrastive.report import front_matter
from hf_contrastive.report.eval_results import benchmark_results, write_eval_results
from hf_contrastive.report.facts import TrainingFacts
from hf_contrastive.report.hub_schema import metadata_faults
from hf_contrastive.report.licence import chosen_licence
from hf_contrastive.report.limits import limits
from hf_contrastive.report.merging import MergedCard, merge_cards, seal
from hf_contrastive.report.metadata import build_metadata, pipeline_of
from hf_contrastive.report.names import CARD
from hf_contrastive.report.objective import Objective, bibtex
from hf_contrastive.report.privacy import scrub
from hf_contrastive.report.result import RunResult, before_training
from hf_contrastive.report.retrieval import pools, recalls_at_1, shares_ids
from hf_contrastive.report.snippets import snippets
from hf_contrastive.report.table import geometry_table, result_table
from hf_contrastive.report.training_rows import inline, training_rows


if TYPE_CHECKING:
    from hf_contrastive.training.training_args import ContrastiveTrainingArguments


logger = logging.get_logger(__name__)

# What stands in brackets in the short table, by what its keys begin with.
_REFERENCES = {
    f"{PREFIX}uniformity_floor": "the lowest uniformity that this width allows",
    f"{PREFIX}modality_gap_floor": "the gap that sampling alone would show",
    f"{PREFIX}unmatched_cosine_mean": "the cosine of pairs that do not match",
}
_GAP, _FLOOR = f"{PREFIX}modality_gap_", f"{PREFIX}modality_gap_floor_"


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


def update_card(folder: str | Path, new: str, *, old: str | bytes | None = None) -> MergedCard:
    """
    Put a generated card into a folder, keeping what people wrote into the old one.

    Sections that nobody edited are replaced, and so is metadata; edited ones, texts between them and metadata that
    people added stay, and a warning says which. See [`~hf_contrastive.report.merging.merge_cards`].

    Args:
        folder (`str` or `Path`):
            Folder of the model.
        new (`str`):
            The generated card, see [`render_card`].
        old (`str` or `bytes`, *optional*):
            The card to keep edits of, such as the one on the Hub. By default the folder's own. One that cannot be read
            is set aside in `_README.old.md`, which is never pushed.

    Returns:
        `MergedCard`: The card that was written, and what was kept.
    """
    path = Path(folder) / CARD
    if old is None and path.is_file():
        old = path.read_bytes()
    data = old.encode() if isinstance(old, str) else old or b""
    merged = MergedCard(new)
    if data.strip():
        try:
            merged = merge_cards(front_matter.decode(data), new)
        except ValueError as error:
            spare = set_aside(path, "_README.old.md", data).name
            merged = MergedCard(new, (f"The old card could not be read and is now {spare}: {error}",))
    path.write_text(merged.text, encoding="utf-8")
    for sentence in merged.kept:
        logger.warning(f"{CARD}: {sentence}")
    return merged


def set_aside(card: Path, name: str, data: bytes) -> Path:
    """Keep `data` beside a card under a name, which gets a number where it holds something else."""
    numbers = count(2)
    spare = card.with_name(name)
    while spare.exists() and spare.read_bytes() != data:
        spare = card.with_name(f"{Path(name).stem}.{next(numbers)}.md")
    spare.write_bytes(data)
    return spare


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
    before = before_training(own)
    card = ModelCard.from_template(
        build_metadata(name, own, facts, objective),
        template_str=files("hf_contrastive").joinpath("templates/model_card.md").read_text(encoding="utf-8"),
        model_name=name,
        headline=_headline(own),
        modalities=" and ".join(filter(None, [", ".join(facts.modalities[:-1]), facts.modalities[-1]])).capitalize(),
        two_or_more="both" if len(facts.modalities) == 2 else "every two",
        origin=_origin(facts),
        aim=objective.told,
        objective=objective,
        citations=[bibtex(paper) for paper in objective.papers],
        picture=picture,
        geometry=geometry_table(results) if own.test_rows else None,
        sampled_rows=_count(own, "quadratic_rows"),
        tested_rows=_count(own, "gaussianity_rows"),
        needs=_needs(facts),
        local=not args.hub_model_id,
        snippets=snippets(args.hub_model_id or ".", facts, zero_shot=pipeline_of(facts).startswith("zero-shot-image")),
        table=result_table([*before, *results]) if own.test_rows else None,
        before=bool(before),
        test_rows=own.test_rows,
        test_split=facts.test_split,
        shares_ids=shares_ids(own),
        dataset=inline(facts.measured_dataset),
        beside=[
            *(["the model before training"] if before else []),
            *(f"`{inline(other.name)}`" for other in results[1:]),
        ],
        others=[(inline(other.name), Objective.read(other.loss).shown) for other in results[1:]],
        has_geometry=any(name.startswith(PREFIX) for name in own.metrics),
        references=[told for key, told in _REFERENCES.items() if any(name.startswith(key) for name in own.metrics)],
        has_formula=any(info.formula for info in objective.infos),
        limits=limits(results, facts, max_logit_scale=args.max_logit_scale),
        licence=chosen_licence(vars(facts.sharing)),
        parts_with_terms="The data" if facts.from_scratch else "The data and the base model",
        **training_rows(own, args, facts, objective),
    )
    return seal(scrub(str(card), secrets=[args.hub_token]))


def _count(result: RunResult, name: str) -> int | None:
    """The most rows of a modality that the result names."""
    counts = [value for key, value in result.metrics.items() if key.startswith(f"{PREFIX}{name}_")]
    return int(max(counts)) if counts else None


def _headline(own: RunResult) -> str | None:
    """What a model scores, in one sentence."""
    recalls = recalls_at_1(own)
    if not recalls:
        return None
    told = " and ".join(f"{own.metrics[recall.key]:.3f} {recall.direction}" for recall in recalls)
    if len(recalls) > 2:
        told = f"{fmean(own.metrics[r.key] for r in recalls):.3f} in the mean over {len(recalls)} directions"
    candidates, chance = pools(recalls, own)
    gaps = {key: value for key, value in own.metrics.items() if key.startswith(_GAP) and not key.startswith(_FLOOR)}
    shown = f"R@1 {told}, among {candidates} candidates" + (f" (chance {chance})" if chance else "")
    if len(gaps) != 1:
        return shown
    ((key, gap),) = gaps.items()
    floor = own.metrics.get(key.replace(_GAP, _FLOOR))
    return f"{shown}; modality gap {gap:.3f}" + (f", where sampling alone shows {floor:.3f}" if floor else "")


def _origin(facts: TrainingFacts) -> str:
    """Where a model's weights came from, as the end of a sentence."""
    bases = " and ".join(f"[{base}](https://huggingface.co/{base})" for base in facts.hub_base_models)
    if facts.adapter:
        return f"an adapter ({facts.adapter}) of {bases or 'another model'}, trained"
    return "trained from scratch" if facts.from_scratch else f"fine-tuned from {bases or 'another model'}"


def _needs(facts: TrainingFacts) -> str:
    """What it takes to load a model, as a sentence."""
    if facts.adapter:
        return (
            "It is an adapter: `pip install 'hf-contrastive[peft]'` puts it, with its temperature, on the base model."
        )
    if facts.plain:
        return "No other package than `transformers` is needed."
    if facts.is_joined:
        return "The model's class comes with `pip install hf-contrastive`."
    return f"The class `{facts.model_class}` is the author's own: it takes their code to load the model."
