"""Processors of one tokenizer per modality, beside a Trainer that expects a processor to have one tokenizer in all."""

from typing import Any

from transformers import PreTrainedTokenizerBase, Trainer
from transformers.trainer_utils import TrainOutput

from hf_contrastive.training.replacing import replaced


class SpecialTokensTrainer(Trainer):
    """A [`~transformers.Trainer`] that writes special tokens to the model's configuration only where it is clear whose."""

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """[`~transformers.Trainer.train`]."""
        self._processors = self.processing_class
        of_one = isinstance(self.processing_class, PreTrainedTokenizerBase) or hasattr(
            self.processing_class, "tokenizer"
        )
        # Until the loop begins: the Trainer (transformers 5.23) reads `processing_class.tokenizer` unasked.
        with replaced(self, processing_class=self.processing_class if of_one else None):
            output: TrainOutput = super().train(*args, **kwargs)
        return output

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> TrainOutput:
        with replaced(self, processing_class=self._processors):
            output: TrainOutput = super()._inner_training_loop(*args, **kwargs)
        return output
