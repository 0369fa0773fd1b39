"""The trainer, from the floor up.

[`processes`] keeps several processes together, [`resumable`] loses nothing when a run is killed, [`evaluation`] measures
embeddings, [`tower_trainer`] trains parts of a model, and [`trainer`] computes the contrastive loss on top of them.
"""
