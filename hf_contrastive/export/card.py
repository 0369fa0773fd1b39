"""A first card beside an export: what the Hub needs to know, how to load it, and what it could not be."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from hf_contrastive.export.metadata import ExportMetadata, metadata_of


def write_card(folder: Path, name: str, reason: str | None, *, on_hub: bool) -> ExportMetadata:
    """Write `README.md`, which a card with the run's figures may replace; what it says is returned."""
    metadata = metadata_of(folder, name, on_hub=on_hub)
    data = ModelCardData(
        library_name=metadata.library_name, pipeline_tag=metadata.pipeline_tag, tags=list(metadata.tags)
    )
    lines = [f"# {name.rstrip('/').rpartition('/')[2]}", f"```python\n{metadata.snippet}\n```"]
    if reason is not None:
        lines.append(f"It needs `hf-contrastive` because no class of `transformers` computes the same: {reason}")
    text = "\n\n".join(lines)
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}\n").save(folder / "README.md")
    return metadata
