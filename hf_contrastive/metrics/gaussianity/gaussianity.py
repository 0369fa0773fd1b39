"""Whether a cloud passes for a Gaussian: by lengths, coordinates and projections."""

import torch

from hf_contrastive.functional import expected_gaussianity, gaussianity, norm_variation
from hf_contrastive.metrics import embedding_module


class Gaussianity(embedding_module.EmbeddingModule):
    description = (
        "Tests of normality of one modality's embeddings at a fixed, reported number of rows: Anderson-Darling and "
        "D'Agostino-Pearson of each coordinate, Epps-Pulley of projections, variation of lengths, each beside that of "
        "a Gaussian."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width), at least 20 rows, not normalized.
    num_rows (`int`, *optional*, defaults to `1000`): Rows that are drawn for the tests; all where there are fewer.
    slices (`int`, *optional*, defaults to `256`): Random directions.
    seed (`int`, *optional*, defaults to `0`): Seed of rows and directions.
    normalize (`bool`, *optional*, defaults to `True`): Whether to scale rows to unit length before the tests.
        `norm_variation` takes them as they are.
Returns:
    `anderson_darling`: Mean over coordinates of the Anderson-Darling statistic; infinite where one does not vary.
    `anderson_darling_share`: Share of coordinates below 0.752, the level of 5 %.
    `dagostino_pearson`: Mean over coordinates of the p-value of D'Agostino and Pearson.
    `dagostino_pearson_share`: Share of coordinates above 0.05.
    `epps_pulley`: Mean over random directions of the Epps-Pulley statistic.
    `norm_variation`: Standard deviation of the rows' lengths over their mean.
    `*_gaussian`: Each of these of a Gaussian: the reference.
    `gaussianity_rows`: Rows that were tested.
Examples:
    >>> rows = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    >>> found = hf_contrastive.load_metric("gaussianity").compute(predictions=rows, normalize=False)
    >>> found["anderson_darling_gaussian"], found["gaussianity_rows"]
    (0.3844, 500.0)
"""
    citation = """\
@inproceedings{betser2026infonce,
  title={InfoNCE Induces Gaussian Distribution},
  author={Betser, Roy and Gofer, Eyal and Levi, Meir Yossef and Gilboa, Guy},
  booktitle={International Conference on Learning Representations},
  year={2026}
}
"""
    reference_url = "https://huggingface.co/papers/2602.24012"
    inputs = ("predictions",)

    @staticmethod
    def measure(
        x: torch.Tensor, *, num_rows: int = 1000, slices: int = 256, seed: int = 0, normalize: bool = True
    ) -> dict[str, float]:
        values = gaussianity(x, num_rows=num_rows, slices=slices, seed=seed, normalize=normalize)._asdict()
        tested = values.pop("num_rows")
        reference = expected_gaussianity(tested)._asdict()
        values["norm_variation"], reference["norm_variation"] = norm_variation(x)
        references = {f"{name}_gaussian": reference[name] for name in values}
        return embedding_module.floats(values | references | {"gaussianity_rows": tested})
