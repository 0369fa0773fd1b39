"""What belongs to the processor of one modality: its kind, its files, its options."""

from collections.abc import Iterator, Mapping
from typing import Any


# Which files a processor of each kind writes: of each, one fits the root of a folder.
_FILES = {"text": "tokenizer", "image": "preprocessor", "audio": "preprocessor"}


def places(kinds: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """For each modality with a processor, where in the folder its files are: in the root or in one called after it."""
    taken = set()
    for name in sorted(kinds):
        if kinds[name] == "embedding":
            continue
        if kinds[name] not in _FILES:
            raise ValueError(
                f"The modality {name!r} must be of a kind of {sorted(_FILES)}, but it is {kinds[name]!r}."
            )
        files = _FILES[kinds[name]]
        yield name, name if files in taken else ""
        taken.add(files)


def kind_of(reads: tuple[str, ...]) -> str:
    """What the values of a modality are, whose tower reads these inputs."""
    if "input_ids" in reads:
        return "text"
    return "image" if "pixel_values" in reads else "audio"


def text_options(config: Any, reads: tuple[str, ...]) -> dict[str, Any]:
    """How a tower's texts are padded: as in its training, without outputs that it does not read."""
    options: dict[str, Any] = {"padding": True, "truncation": True}
    if config.model_type.startswith("siglip"):
        # It reads all positions.
        options = {"padding": "max_length", "truncation": True, "max_length": config.max_position_embeddings}
        options["return_attention_mask"] = False
    return options if "token_type_ids" in reads else options | {"return_token_type_ids": False}
