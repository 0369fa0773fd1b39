"""What only the author knows of a model that is shared, as arguments of a recipe."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from hf_contrastive.report.facts import Sharing


@dataclass(frozen=True, kw_only=True)
class SharingArguments:
    """What the model card says that only you know. See [`Sharing`]."""

    license: str | None = field(
        default=None,
        metadata={"help": "Licence of the model in its card, such as apache-2.0. By default none is chosen."},
    )
    license_name: str | None = field(default=None, metadata={"help": "Name of a licence that is none of the Hub's."})
    license_link: str | None = field(default=None, metadata={"help": "Where the text of that licence is."})
    language: list[str] = field(default_factory=list, metadata={"help": "Languages of the captions: --language en."})
    benchmark_task: str | None = field(
        default=None, metadata={"help": "Task of --dataset, a benchmark of the Hub: its score goes to .eval_results."}
    )
    benchmark_metric: str = field(
        default="retrieval/image_to_text_recall@1", metadata={"help": "The measure that is the benchmark's score."}
    )

    def sharing(self, usual_language: Sequence[str] = ()) -> Sharing:
        """
        All of it, in the language of the data where none is given.

        Raises:
            ValueError: The Hub would not take it.
        """
        told = {x.name: getattr(self, x.name) for x in fields(Sharing)}
        return Sharing(**told | {"language": self.language or list(usual_language)})
