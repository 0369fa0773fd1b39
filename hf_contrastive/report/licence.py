"""What a card says of a model's licence: what its author chose, never more."""

from collections.abc import Mapping
from typing import Any


def chosen_licence(metadata: Mapping[str, Any]) -> str:
    """A sentence on the licence that a card's metadata names."""
    identifier, link = metadata.get("license"), metadata.get("license_link")
    if identifier in (None, "unknown"):
        return "No licence was chosen for this model: whoever wants to use it must ask its author."
    if isinstance(identifier, list):
        return f"{' and '.join(f'`{name}`' for name in identifier)}, as chosen by the author."
    name = metadata.get("license_name") or identifier
    return f"{f'[{name}]({link})' if link else f'`{name}`'}, as chosen by the author."
