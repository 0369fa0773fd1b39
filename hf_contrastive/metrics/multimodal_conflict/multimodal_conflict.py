"""Where repulsion cancels attraction (zeta), and attractions to several modalities each other (chi)."""

from collections.abc import Sequence

import torch

from hf_contrastive.functional import Conflict, multimodal_conflict, pairing_control
from hf_contrastive.metrics import embedding_module


class MultimodalConflict(embedding_module.EmbeddingModule):
    description = (
        "Conflicts in InfoNCE of one modality against one or more others, averaged over rows: the cosine between "
        "attraction and repulsion (zeta), and the share of attraction that is lost because positives point different "
        "ways (chi)."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width).
    references: Embeddings of the other; row i matches row i of `predictions`.
    others (`list[array]`, *optional*): Embeddings of further modalities, row i of each the same item; streamed by
        `add_batch` too.
    weights (`list[float]`, *optional*): Weight of each modality but `predictions`. By default 1.
    temperature (`float`, *optional*, defaults to `0.07`): Temperature of the kernel; values of different ones do not
        compare.
    shuffles (`int`, *optional*, defaults to `2`): Random pairings that are tried; each takes as long as the value.
    seed (`int`, *optional*, defaults to `0`): Seed of the pairings.
Returns:
    `zeta`: Mean cosine between attraction and repulsion at rows of `predictions`; at 1 repulsion cancels attraction.
    `zeta_shuffled_mean`: Its mean when rows are paired at random.
    `chi`: Mean share of attraction that is lost, in [0, 1); 0 with two modalities.
    `chi_limit`: What `chi` rises to with infinitely many modalities whose positives have the mean cosine of these.
Examples:
    >>> conflict = hf_contrastive.load_metric("multimodal_conflict")
    >>> x, y = [[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]
    >>> round(conflict.compute(predictions=x, references=x, others=[y])["chi"], 4)
    0.2929
"""
    citation = """\
@misc{yin2026towards,
  title={Towards Uniformity and Alignment for Multimodal Representation Learning},
  author={Yin, Wenzhe and Zhou, Pan and Xiao, Zehao and Liu, Jie and Yu, Shujian and Sonke, Jan-Jakob and Gavves, Efstratios},
  year={2026},
  eprint={2602.09507},
  archivePrefix={arXiv}
}
"""
    reference_url = "https://huggingface.co/papers/2602.09507"
    optional = ("others",)
    unused = ()

    @staticmethod
    def measure(
        x: torch.Tensor,
        y: torch.Tensor,
        *,
        others: Sequence[torch.Tensor] = (),
        weights: Sequence[float] | None = None,
        temperature: float = 0.07,
        shuffles: int = 2,
        seed: int = 0,
    ) -> dict[str, float]:
        def conflict(x: torch.Tensor, *others: torch.Tensor) -> Conflict:
            return multimodal_conflict([x, *others], weights=weights, temperature=temperature)

        def zeta(x: torch.Tensor, side_by_side: torch.Tensor) -> torch.Tensor:
            return conflict(x, *torch.split(side_by_side, x.shape[1], dim=1)).zeta.mean()

        own = conflict(x, y, *others)
        control = pairing_control(zeta, x, torch.cat([y, *others], dim=1), shuffles=shuffles, seed=seed)
        return embedding_module.floats(
            {
                "zeta": own.zeta.mean(),
                "zeta_shuffled_mean": control.mean,
                "chi": own.chi.mean(),
                "chi_limit": own.chi_limit,
            }
        )
