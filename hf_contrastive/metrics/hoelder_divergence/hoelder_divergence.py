"""The Hölder divergence of two or more clouds, beside that of random deals of their rows."""

from collections.abc import Sequence

import torch

from hf_contrastive.functional import hoelder_divergence, modality_control
from hf_contrastive.metrics import embedding_module


class HoelderDivergence(embedding_module.EmbeddingModule):
    description = (
        "Hölder divergence of the distributions of two or more clouds of embeddings, by kernel densities, beside its "
        "mean and deviation over random deals of all rows to the clouds."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width).
    references: Embeddings of the other, shape (m, width); n and m may differ.
    others (`list[array]`, *optional*): Embeddings of further modalities, one matrix each; streamed by `add_batch`
        too.
    t (`float`, *optional*, defaults to `2.0`): Sharpness of the kernel exp(-t |u - v|^2), half an inverse
        temperature; values of different ones do not compare.
    shuffles (`int`, *optional*, defaults to `5`): Random deals of the rows to the clouds that are tried; each takes
        as long as the value.
    seed (`int`, *optional*, defaults to `0`): Seed of the deals.
    normalize (`bool`, *optional*, defaults to `True`): Whether to scale rows to unit length first.
Returns:
    `hoelder_divergence`: The divergence; not negative but for sampling noise. Reference: 0 for equal distributions.
    `hoelder_divergence_dealt_mean`: Its mean when all rows are dealt to the clouds at random.
    `hoelder_divergence_dealt_std`: Its standard deviation over these deals.
Examples:
    >>> divergence = hf_contrastive.load_metric("hoelder_divergence")
    >>> x, y = [[1.0, 0.0]] * 4, [[-1.0, 0.0]] * 4
    >>> round(divergence.compute(predictions=x, references=y)["hoelder_divergence"], 4)
    8.0
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

    @staticmethod
    def measure(
        x: torch.Tensor,
        y: torch.Tensor,
        *,
        others: Sequence[torch.Tensor] = (),
        t: float = 2.0,
        shuffles: int = 5,
        seed: int = 0,
        normalize: bool = True,
    ) -> dict[str, float]:
        def divergence(*clouds: torch.Tensor) -> torch.Tensor:
            return hoelder_divergence(clouds, t=t, normalize=normalize)

        control = modality_control(divergence, x, y, *others, shuffles=shuffles, seed=seed)
        return embedding_module.floats(
            {
                "hoelder_divergence": control.value,
                "hoelder_divergence_dealt_mean": control.mean,
                "hoelder_divergence_dealt_std": control.std,
            }
        )
