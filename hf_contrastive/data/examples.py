"""Examples of any modalities from a dataset that decodes what it is asked for and names the rows that it cannot read."""

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset, DatasetInfo
from torch.utils.data import Dataset as TorchDataset
from transformers.utils import logging

from hf_contrastive.data.modalities import IDS, Kind
from hf_contrastive.data.picking import Pick, Picker
from hf_contrastive.data.row_reader import RowReader
from hf_contrastive.data.rows import (
    NAMED,
    BadRowError,
    Place,
    as_encoded,
    check_kind,
    check_on_bad_row,
    is_list,
    kind_of,
    present_values,
    read,
    values_of,
)
from hf_contrastive.data.skipped import SharedCount


logger = logging.get_logger(__name__)

HARD = "hard_negatives_"
# Other rows to try in place of a bad one.
TRIES = 100


class ExampleDataset(TorchDataset[dict[str, Any]]):
    """
    Rows `{modality: value}` of a [`~datasets.Dataset`], decoded when they are read.

    Images are PIL images, texts strings, sounds dicts with an `array` and a `sampling_rate`, embeddings lists of
    numbers. With three modalities and more, a row may lack some (`None`) but must have two.

    Args:
        dataset ([`~datasets.Dataset`]):
            The data.
        columns (`dict[str, str]`):
            Column of each modality. It holds one value, or a list of several such as captions of one image.
        kinds (`dict[str, str]`, *optional*):
            What modalities are, of `"image"`, `"text"`, `"audio"` and `"embedding"`, where their columns do not tell.
        pick (`str` or `dict[str, str]`, *optional*, defaults to `"first"`):
            What to read of a list, of all modalities or of each: the `"first"` value; a `"random"` one, drawn from seed,
            epoch and row, so the same however many processes and workers read; or `"all"` of them, each in an example of
            its own. These share an id, which the collator hands on: positives to losses that take several, to others no
            negatives.
        hard_negatives (`dict[str, str]`, *optional*):
            Column of hard negatives of a modality, with one value or a list. Examples have them as
            `"hard_negatives_<modality>"`.
        num_hard_negatives (`int`, *optional*, defaults to 1):
            Hard negatives that a row must have; more are not read.
        on_bad_row (`str`, *optional*, defaults to `"raise"`):
            What becomes of a row that cannot be decoded, is empty, not finite or nothing but zeros: `"raise"` an error
            that names it, or `"skip"` it. Another row, drawn from seed, epoch and row, then takes its place, so batches
            keep their size on all processes, and `skipped_rows` counts it at each reading.
        id_column (`str`, *optional*):
            Column that tells what a row shows, integers or strings; rows then have an `"id"`. Rows of one id are no
            negatives of each other, see [`ContrastiveCollator`].
        seed (`int`, *optional*, defaults to 0):
            Seed of what is drawn.
        name (`str`, *optional*, defaults to `"dataset"`):
            What to call the data in messages.

    Raises:
        ValueError: The dataset is empty, or a column is missing or of the wrong kind. When a row is read: it is bad, or
            too many are.
    """

    def __init__(
        self,
        dataset: Dataset,
        columns: Mapping[str, str],
        *,
        kinds: Mapping[str, Kind] | None = None,
        pick: Pick | Mapping[str, Pick] = "first",
        hard_negatives: Mapping[str, str] | None = None,
        num_hard_negatives: int = 1,
        on_bad_row: str = "raise",
        id_column: str | None = None,
        seed: int = 0,
        name: str = "dataset",
    ) -> None:
        if len(dataset) == 0:
            raise ValueError(f"The {name} is empty: it has the columns {dataset.column_names} and no rows.")
        check_on_bad_row(on_bad_row)
        self.name, self.columns, self.id_column, self.seed = name, dict(columns), id_column, seed
        self.on_bad_row, self.num_hard_negatives = on_bad_row, num_hard_negatives
        self.hard_negatives = dict(hard_negatives or {})
        self._picker = Picker(pick, list(self.columns), seed)
        self.picks = self._picker.picks
        if unknown := sorted(set(self.hard_negatives) - set(self.columns)):
            raise ValueError(f"`hard_negatives` must be of the modalities {list(self.columns)}, but got {unknown}.")
        wanted = [*self.columns.values(), *self.hard_negatives.values(), *([id_column] if id_column else [])]
        for column in wanted:
            if column not in dataset.column_names:
                argument = "`id_column`" if column == id_column else "column"
                raise ValueError(f"The {name} has no {argument} {column!r}. Its columns: {dataset.column_names}.")
        self.kinds: dict[str, Kind] = {
            m: (kinds or {}).get(m) or kind_of(dataset.features[column], column, name)
            for m, column in self.columns.items()
        }
        self.features = dict(dataset.features)
        dataset = dataset.select_columns(list(dict.fromkeys(wanted))).with_format(None)
        for m, column in [*self.columns.items(), *self.hard_negatives.items()]:
            check_kind(self.features[column], self.kinds[m], column, name)
            # Bytes, not pictures: an undecodable image must be reported with its row, which `datasets` does not know.
            dataset = as_encoded(dataset, column, self.kinds[m])
        self.dataset, self._read_rows = dataset, RowReader(dataset)
        self._skipped, self._named = SharedCount(), set[int]()
        lists = [m for m, column in self.columns.items() if is_list(self.features[column], self.kinds[m])]
        read_all = [m for m in lists if self.picks[m] == "all"]
        if len(read_all) > 1:
            raise ValueError(f"`pick` can be 'all' for one modality with lists, but the {name} has {read_all}.")
        self._places = self._list_places(read_all[0]) if read_all else None

    def __len__(self) -> int:
        return len(self.dataset) if self._places is None else len(self._places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several examples in one read, as PyTorch's data loader asks for them."""
        indices = list(indices)
        places, taken = [self._place(index) for index in indices], set(indices)
        columns = self._read_rows([row for row, _ in places])
        examples = []
        for position, (row, number) in enumerate(places):
            entries = {column: values[position] for column, values in columns.items()}
            try:
                examples.append(self._example(row, number, entries))
            except BadRowError as error:
                if self.on_bad_row == "raise":
                    raise
                examples.append(self._replacement(indices[position], taken, error))
        return examples

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, for which values are drawn anew. Trainers do so by themselves."""
        self._picker.set_epoch(epoch)

    @property
    def info(self) -> DatasetInfo:
        """What `datasets` knows of the data, such as its name and licence."""
        return self.dataset.info

    @property
    def gives_ids(self) -> bool:
        """Whether examples say by themselves what they show, since several are of one row."""
        return self._places is not None

    def column_values(self, column: str) -> list[Any]:
        """The values of a modality of texts, or of `"id"`, one per example, as the data loader's examples have them."""
        columns = {m: name for m, name in self.columns.items() if self.kinds[m] == "text"}
        columns |= {"id": self.id_column} if self.id_column else {}
        if column not in columns:
            raise ValueError(
                f"Examples of the {self.name} have no {column!r} to tell rows apart, but {sorted(columns)}."
            )
        entries = list(self.dataset[columns[column]])
        if self._places is None:
            return entries
        if self.picks.get(column) != "all":
            return [entries[row] for row, _ in self._places]
        values = [values_of(entry, "text") or [None] for entry in entries]
        return [values[row][number] for row, number in self._places]

    @property
    def skipped_rows(self) -> int | None:
        """How often a bad row was replaced when this process and its workers read one, or `None` if none may be."""
        return int(self._skipped) if self.on_bad_row == "skip" else None

    def _example(self, row: int, number: int, entries: Mapping[str, Any]) -> dict[str, Any]:
        example: dict[str, Any] = {}
        for m, values in present_values(entries, self.columns, self.kinds, f"row {row} of the {self.name}").items():
            picked = self._picker.pick(values, m, row, number) if values else None
            example[m] = self._read(picked, m, self.columns[m], row) if values else None
        for m, column in self.hard_negatives.items():
            values = values_of(entries[column], self.kinds[m])[: self.num_hard_negatives]
            if len(values) < self.num_hard_negatives:
                raise BadRowError(
                    f"Row {row} of the {self.name} has {len(values)} hard negatives in column {column!r}, but needs "
                    f"{self.num_hard_negatives}."
                )
            example[f"{HARD}{m}"] = [self._read(value, m, column, row) for value in values]
        if self.id_column is not None:
            example["id"] = entries[self.id_column]
        if self._places is not None:
            example[IDS] = example.get("id", row)
        return example

    def _read(self, value: Any, modality: str, column: str, row: int) -> Any:
        return read(value, self.kinds[modality], self.features[column], self._where(row, column))

    def _where(self, row: int, column: str) -> Place:
        return Place(f"row {row} of the {self.name}", column)

    def _replacement(self, index: int, taken: set[int], error: BadRowError) -> dict[str, Any]:
        """A good example in place of a bad one, none of those `taken` if there are others, which then is taken too."""
        self._skipped.add_one()
        if index not in self._named and len(self._named) < NAMED:
            self._named.add(index)
            logger.warning(f"{error} It is skipped, and another row takes its place.")
        for attempt in range(TRIES):
            other = self._picker.draw(len(self), "instead", index, attempt)
            if other in taken and len(taken) < len(self):
                continue
            row, number = self._place(other)
            entries = {column: values[0] for column, values in self._read_rows([row]).items()}
            try:
                example = self._example(row, number, entries)
            except BadRowError as found:
                error = found
            else:
                taken.add(other)
                return example
        raise ValueError(
            f"Of {TRIES} rows drawn in place of a bad one of the {self.name}, none is good. {error}"
        ) from error

    def _place(self, index: int) -> tuple[int, int]:
        """Row of the dataset, and which of its values where all are read."""
        return (index, 0) if self._places is None else self._places[index]

    def _list_places(self, modality: str) -> list[tuple[int, int]]:
        entries, kind = self.dataset[self.columns[modality]], self.kinds[modality]
        # A row without values keeps one example, to be named or skipped when it is read.
        return [(row, i) for row, x in enumerate(entries) for i in range(max(1, len(values_of(x, kind))))]
