"""The energies that a contrastive loss becomes with infinitely many rows, and what they are made of."""

import torch

from hf_contrastive.functional import population_energies
from hf_contrastive.metrics import embedding_module


class PopulationEnergies(embedding_module.EmbeddingModule):
    description = (
        "Energy that InfoNCE between two clouds becomes with infinitely many rows, in nats, and its parts: alignment, "
        "cross-entropies, entropies, free energies and the divergence by which a gap lowers it."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width).
    references: Embeddings of the other; row i matches row i of `predictions`, unless ids say otherwise.
    prediction_ids (`list[int]`, *optional*): Item of each row of `predictions`. By default row i matches row i.
    reference_ids (`list[int]`, *optional*): Item of each row of `references`, for example one image id for each of
        five captions.
    temperature (`float`, *optional*, defaults to `0.07`): Temperature of the kernel; values of different ones do not
        compare.
Returns:
    `population_energy`: `alignment_energy` minus the mean of both cross-entropies.
    `population_energy_reference`: Energy of coinciding matches on evenly spread clouds. Not a lower bound: clouds
        apart can have less.
    `alignment_energy`: Minus the mean cosine of matches over the temperature, at least minus its inverse.
    `cross_entropy_predictions`: Of `predictions` under the density of `references`.
    `cross_entropy_references`: The other way.
    `entropy_predictions`: Entropy of `predictions`.
    `entropy_references`: Entropy of `references`.
    `entropy_ceiling`: Entropy of evenly spread rows, the largest.
    `free_energy_predictions`: `alignment_energy` minus the entropy of `predictions`.
    `free_energy_references`: As much for `references`.
    `energy_divergence`: By how much both cross-entropies exceed the entropies on average; reference: 0 for equal
        clouds.
Examples:
    >>> energies = hf_contrastive.load_metric("population_energies")
    >>> rows = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    >>> round(energies.compute(predictions=rows, references=rows, temperature=0.5)["alignment_energy"], 4)
    -2.0
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
    optional = embedding_module.IDS

    @staticmethod
    def measure(
        x: torch.Tensor,
        y: torch.Tensor,
        *,
        prediction_ids: torch.Tensor | None = None,
        reference_ids: torch.Tensor | None = None,
        temperature: float = 0.07,
    ) -> dict[str, float]:
        energies = population_energies(x, y, x_ids=prediction_ids, y_ids=reference_ids, temperature=temperature)
        return embedding_module.floats(
            {
                "population_energy": energies.energy,
                "population_energy_reference": energies.reference,
                "alignment_energy": energies.alignment,
                "cross_entropy_predictions": energies.cross_entropy_x,
                "cross_entropy_references": energies.cross_entropy_y,
                "entropy_predictions": energies.entropy_x,
                "entropy_references": energies.entropy_y,
                "entropy_ceiling": energies.entropy_ceiling,
                "free_energy_predictions": energies.free_energy_x,
                "free_energy_references": energies.free_energy_y,
                "energy_divergence": energies.divergence,
            }
        )
