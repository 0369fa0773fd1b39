"""Any statistic of pairs beside what it is when rows are paired at random: a sanity check."""

from collections.abc import Callable, Sequence

import torch

from hf_contrastive import functional
from hf_contrastive.functional import pairing_control
from hf_contrastive.metrics import embedding_module


# Functions of two matrices whose rows match.
STATISTICS: dict[str, Callable[..., torch.Tensor]] = {
    "alignment": functional.alignment,
    "recall@1": lambda x, y: functional.retrieval_ranks(x, y).recall(1),
    "mrr": lambda x, y: functional.retrieval_ranks(x, y).mean_reciprocal(),
    "d_prime": lambda x, y: functional.cosine_statistics(x, y).d_prime,
    "modality_gap": lambda x, y: functional.modality_gap(x, y).gap,
    "energy_distance": lambda x, y: functional.energy_distance(x, y).unbiased,
    "smoothed_divergence": functional.smoothed_divergence,
}


class PairingControl(embedding_module.EmbeddingModule):
    description = (
        "Statistics of two clouds beside what they are when rows are paired at random: measures of pairs must fall to "
        "chance, and measures of the two clouds must not move."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width).
    references: Embeddings of the other; row i matches row i of `predictions`.
    statistics (`list[str]`, *optional*, defaults to `["alignment", "modality_gap"]`): Of `alignment`, `recall@1`,
        `mrr`, `d_prime`, `modality_gap`, `energy_distance` and `smoothed_divergence`.
    shuffles (`int`, *optional*, defaults to `20`): Random pairings that are tried; each takes as long as the
        statistics.
    seed (`int`, *optional*, defaults to `0`): Seed of the pairings.
Returns:
    `<statistic>_paired`: The statistic of the rows as they are paired.
    `<statistic>_shuffled_mean`: Its mean over random pairings: the reference.
    `<statistic>_shuffled_std`: Its standard deviation over them.
    `<statistic>_z`: How many of these deviations the value lies above the mean; not a number where pairing changes
        nothing.
    `<statistic>_p`: Share of pairings, the given one included, that are at least as far from the mean.
Examples:
    >>> control = hf_contrastive.load_metric("pairing_control")
    >>> rows = torch.eye(8)
    >>> found = control.compute(predictions=rows, references=rows)
    >>> found["alignment_paired"], round(found["alignment_shuffled_mean"], 1)
    (0.0, 1.8)
"""
    citation = """\
@inproceedings{cai2026geometric,
  title={The Geometric Mechanics of Contrastive Representation Learning: Alignment Potentials, Entropic Dispersion,
    and Cross-Modal Divergence},
  author={Cai, Yichao and Zhang, Zhen and Liu, Yuhang and Shi, Javen Qinfeng},
  booktitle={International Conference on Machine Learning},
  year={2026}
}
"""
    reference_url = "https://huggingface.co/papers/2601.19597"
    unused = ()

    @staticmethod
    def measure(
        x: torch.Tensor,
        y: torch.Tensor,
        *,
        statistics: Sequence[str] = ("alignment", "modality_gap"),
        shuffles: int = 20,
        seed: int = 0,
    ) -> dict[str, float]:
        # In double precision, so that what pairing does not change is equal in all pairings.
        clouds = x.double(), y.double()
        values: dict[str, float] = {}
        for name in statistics:
            if name not in STATISTICS:
                raise ValueError(f"`statistics` must be of {', '.join(STATISTICS)}, but got {name!r}.")
            control = pairing_control(STATISTICS[name], *clouds, shuffles=shuffles, seed=seed)
            values |= {
                f"{name}_paired": control.value,
                f"{name}_shuffled_mean": control.mean,
                f"{name}_shuffled_std": control.std,
                f"{name}_z": control.z,
                f"{name}_p": control.p,
            }
        return embedding_module.floats(values)
