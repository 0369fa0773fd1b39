"""The table of towers in `model_cards/README.md`: `python -m tests.models.tower_page` writes it."""

from pathlib import Path

from tests.export.cases import CASES
from tests.models.tower_table import TABLE


PAGE = Path(__file__).parents[2] / "model_cards" / "README.md"
BEGIN, END = "<!-- towers -->\n", "<!-- /towers -->"
# Tests of tests/models/test_multi_encoder.py and test_references.py that run for each tower.
COLUMNS = {
    "built": "test_the_pooling_is_found_from_the_architecture",
    "as by hand": "test_a_batch_has_the_vectors_that_its_examples_have_alone",
    "trained a step": "test_a_step_changes_every_trainable_parameter",
    "saved and reloaded": "test_what_is_saved_is_loaded_bit_for_bit",
}


def tower_rows() -> str:
    """A row for each tower: its pooling, what it is tried with, and what it has been exported as."""
    lines = [f"| tower | pooling | {' | '.join(COLUMNS)} | exported as |", "| :-- " * (len(COLUMNS) + 3) + "|"]
    for name, example in TABLE.items():
        _, comma, kind = name.partition(", ")
        cells = [f"`{type(example.config).__name__.removesuffix('Config')}`{comma}{kind}", f"`{example.pooling}`"]
        lines.append(f"| {' | '.join([*cells, *['yes'] * len(COLUMNS), _exports(name)])} |")
    return "\n".join(lines) + "\n"


def _exports(name: str) -> str:
    """Classes that have held the tower, each with a condition if its default pooling does not do."""
    found: dict[str, bool] = {}
    for case in CASES.values():
        parts = {modality: tower.partition(" of ")[0] for modality, tower in case.towers.items()}
        given = case.kwargs.get("pooling", {})
        for modality, tower in parts.items():
            is_default = not (given if isinstance(given, str) else given.get(modality))
            formats = [case.written, "SentenceTransformer" if modality == "text" and case.texts is None else None]
            for kind in formats if tower == name else ():
                if kind is not None:
                    found[kind] = found.get(kind, False) or is_default
    shown = [f"`{kind}`{'' if is_default else ' with `pooler`'}" for kind, is_default in sorted(found.items())]
    return ", ".join([*shown, "`MultiEncoder`"])


def write() -> None:
    """Put the table between its marks."""
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}{tower_rows()}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    write()
