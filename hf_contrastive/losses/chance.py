"""Random choices that every process makes alike, step by step."""

from random import Random

from hf_contrastive.batch import ContrastiveBatch


def step_random(batch: ContrastiveBatch, seed: int) -> Random:
    """A generator of this step's choices, the same on every process and in every run with this seed.

    It is made of the seed and the batch's progress, so it changes from one step to the next and stays the same within a
    step, while gradients accumulate, and wherever nothing is trained.
    """
    # Random hashes a text with SHA-512, so near numbers lead to unrelated choices.
    return Random(f"{seed} {batch.progress!r}")
