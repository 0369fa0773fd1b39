"""How many directions a cloud uses: condition number, ranks, IsoScore, beside those of a round cloud."""

import torch

from hf_contrastive.functional import entropy_rank, isotropic_spectrum, rank_me, spectrum, summarize_spectrum
from hf_contrastive.metrics import embedding_module


class Spectrum(embedding_module.EmbeddingModule):
    description = (
        "Spectrum of the covariance of one modality's embeddings in numbers (condition number, effective rank, "
        "participation ratio, RankMe, IsoScore), each beside what as many rows of a round cloud would show."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width), at least two rows.
    ridge (`float`, *optional*, defaults to `0.001`): Share of the mean eigenvalue that is added to both eigenvalues
        of the condition number.
    normalize (`bool`, *optional*, defaults to `True`): Whether to scale rows to unit length first.
Returns:
    `condition_number`: Largest eigenvalue over the smallest, both with the ridge; at least 1.
    `effective_rank`: Exponential of the entropy of the shares of variance, from 1 (collapsed) to the width.
    `participation_ratio`: Inverse of the sum of squared shares, from 1 to the width.
    `numerical_rank`: Directions that vary at all.
    `top_share`: Share of variance of the first direction.
    `iso_score`: Participation ratio on a scale from 0 (a line) to 1 (all directions alike).
    `rank_me`: RankMe: exponential of the entropy of the singular values of the rows, not centered.
    `*_isotropic`: Each of these of as many rows of a round cloud (Marchenko-Pastur law): the reference.
Examples:
    >>> spectrum = hf_contrastive.load_metric("spectrum")
    >>> rows = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
    >>> round(spectrum.compute(predictions=rows)["effective_rank"], 4)
    2.0
"""
    citation = """\
@inproceedings{roy2007effective,
  title={The Effective Rank: A Measure of Effective Dimensionality},
  author={Roy, Olivier and Vetterli, Martin},
  booktitle={European Signal Processing Conference},
  year={2007}
}
@inproceedings{garrido2023rankme,
  title={{RankMe}: Assessing the Downstream Performance of Pretrained Self-Supervised Representations by Their Rank},
  author={Garrido, Quentin and Balestriero, Randall and Najman, Laurent and LeCun, Yann},
  booktitle={International Conference on Machine Learning},
  year={2023}
}
@inproceedings{rudman2022isoscore,
  title={{IsoScore}: Measuring the Uniformity of Embedding Space Utilization},
  author={Rudman, William and Gillman, Nate and Rayne, Taylor and Eickhoff, Carsten},
  booktitle={Findings of the Association for Computational Linguistics},
  year={2022}
}
"""
    reference_url = "https://huggingface.co/papers/2210.02885"
    inputs = ("predictions",)

    @staticmethod
    def measure(x: torch.Tensor, *, ridge: float = 1e-3, normalize: bool = True) -> dict[str, float]:
        own = spectrum(x, normalize=normalize)
        round_cloud = isotropic_spectrum(x.shape[1], len(x))
        values, reference = (summarize_spectrum(z, ridge=ridge)._asdict() for z in (own, round_cloud))
        values["rank_me"] = rank_me(x, normalize=normalize)
        # Singular values are the roots of the eigenvalues.
        reference["rank_me"] = entropy_rank(round_cloud.sqrt())
        return embedding_module.floats(values | {f"{name}_isotropic": value for name, value in reference.items()})
