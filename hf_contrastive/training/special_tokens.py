"""Processors and models of one tokenizer per modality, beside a Trainer that expects one tokenizer in all."""

from typing import Any

from transformers import PreTrainedTokenizerBase, Trainer
from transformers.trainer_utils import TrainOutput

from hf_contrastive.towers.find import base_model
from hf_contrastive.training.replacing import replaced


class SpecialTokensTrainer(Trainer):
    """A [`~transformers.Trainer`] that writes special tokens to the model's configuration only where it is clear whose."""

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """[`~transformers.Trainer.train`]."""
        self._processors = self.processing_class
        # Until the loop begins: the Trainer (transformers 5.23) reads `processing_class.tokenizer` unasked.
        with replaced(self, processing_class=self.processing_class if self._is_clear_whose() else None):
            output: TrainOutput = super().train(*args, **kwargs)
        return output

    def _is_clear_whose(self) -> bool:
        """Whether there is one tokenizer, and a configuration with tokens of its own; that of joined towers has none."""
        config = getattr(base_model(self.model), "config", None)
        is_tokenizer = isinstance(self.processing_class, PreTrainedTokenizerBase)
        has_one = is_tokenizer or hasattr(self.processing_class, "tokenizer")
        return has_one and getattr(config, "model_type", None) != "multi_encoder"

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> TrainOutput:
        with replaced(self, processing_class=self._processors):
            output: TrainOutput = super()._inner_training_loop(*args, **kwargs)
        return output
