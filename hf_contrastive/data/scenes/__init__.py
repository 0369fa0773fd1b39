"""Generated scenes with true captions: a dataset that needs no network."""

from hf_contrastive.data.scenes.build import load_scenes


__all__ = ["load_scenes"]
