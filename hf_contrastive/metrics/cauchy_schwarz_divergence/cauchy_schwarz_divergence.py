"""The Cauchy-Schwarz divergence of two clouds, beside that of random deals of their rows."""

import torch

from hf_contrastive.functional import cauchy_schwarz_divergence, modality_control
from hf_contrastive.metrics import embedding_module


class CauchySchwarzDivergence(embedding_module.EmbeddingModule):
    description = (
        "Cauchy-Schwarz divergence of the distributions of two clouds of embeddings, by kernel densities, beside its "
        "mean and deviation over random deals of all rows to the clouds. Twice their Hölder divergence."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width).
    references: Embeddings of the other, shape (m, width); n and m may differ.
    t (`float`, *optional*, defaults to `2.0`): Sharpness of the kernel exp(-t |u - v|^2), half an inverse
        temperature; values of different ones do not compare.
    shuffles (`int`, *optional*, defaults to `5`): Random deals of the rows to the clouds that are tried; each takes
        as long as the value.
    seed (`int`, *optional*, defaults to `0`): Seed of the deals.
    normalize (`bool`, *optional*, defaults to `True`): Whether to scale rows to unit length first.
Returns:
    `cauchy_schwarz_divergence`: The divergence; not negative but for sampling noise. Reference: 0 for equal
        distributions.
    `cauchy_schwarz_divergence_dealt_mean`: Its mean when all rows are dealt to the clouds at random.
    `cauchy_schwarz_divergence_dealt_std`: Its standard deviation over these deals.
Examples:
    >>> divergence = hf_contrastive.load_metric("cauchy_schwarz_divergence")
    >>> x, y = [[1.0, 0.0]] * 4, [[-1.0, 0.0]] * 4
    >>> round(divergence.compute(predictions=x, references=y)["cauchy_schwarz_divergence"], 4)
    16.0
"""
    citation = """\
@misc{yin2025distributional,
  title={Distributional Vision-Language Alignment by Cauchy-Schwarz Divergence},
  author={Yin, Wenzhe and Xiao, Zehao and Zhou, Pan and Yu, Shujian and Shen, Jiayi and Sonke, Jan-Jakob and Gavves, Efstratios},
  year={2025},
  eprint={2502.17028},
  archivePrefix={arXiv}
}
"""
    reference_url = "https://huggingface.co/papers/2502.17028"

    @staticmethod
    def measure(
        x: torch.Tensor, y: torch.Tensor, *, t: float = 2.0, shuffles: int = 5, seed: int = 0, normalize: bool = True
    ) -> dict[str, float]:
        def divergence(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return cauchy_schwarz_divergence(x, y, t=t, normalize=normalize)

        control = modality_control(divergence, x, y, shuffles=shuffles, seed=seed)
        return embedding_module.floats(
            {
                "cauchy_schwarz_divergence": control.value,
                "cauchy_schwarz_divergence_dealt_mean": control.mean,
                "cauchy_schwarz_divergence_dealt_std": control.std,
            }
        )
