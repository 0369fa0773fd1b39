"""A checkpoint before the machine is taken away, of a finished step and of the same step on every process."""

from typing import Any

from transformers import TrainerControl
from transformers.trainer_jit_checkpoint import JITCheckpointCallback


class SaveWhenTerminated(JITCheckpointCallback):
    """
    [`~transformers.trainer_jit_checkpoint.JITCheckpointCallback`] that saves what can be resumed exactly.

    That of transformers (5.23) also saves between the gradient and the optimizer step, with random state and queue of a
    step that will be repeated, on each process when it hears of the signal, and before the step is logged. Here all
    processes finish the step, log and save as after any other.

    Args:
        heard (`JITCheckpointCallback`):
            The one that listens to the signal.
    """

    def __init__(self, heard: JITCheckpointCallback) -> None:
        super().__init__()
        self.trainer, self.jit_manager = heard.trainer, heard.jit_manager
        self.agreed = False

    @property
    def asked(self) -> bool:
        """Whether this process was told to end."""
        return self.jit_manager is not None and self.jit_manager.is_checkpoint_requested

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        pass

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        pass

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        pass

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> None:
        if self.agreed:
            control.should_save = control.should_training_stop = True
