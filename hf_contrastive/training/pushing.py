"""A Trainer whose pushes lose nothing: saved before it is pushed, tried again, reported if that was in vain."""

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from transformers.trainer_utils import HubStrategy, SaveStrategy, TrainOutput
from transformers.utils import logging

from hf_contrastive.distributed import world_size
from hf_contrastive.hub.background import BackgroundPushes
from hf_contrastive.hub.contents import IGNORED, TRAINING_STATE
from hf_contrastive.hub.failures import Patience, PushError, brief
from hf_contrastive.hub.folders import upload
from hf_contrastive.hub.repositories import Repository, bounded_silence
from hf_contrastive.hub.unpushed import keep_apart
from hf_contrastive.report.drafts import is_generated
from hf_contrastive.report.names import CARD
from hf_contrastive.training.processes import ManyProcessesTrainer
from hf_contrastive.training.replacing import replaced


if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


logger = logging.get_logger(__name__)

# Seconds that a run which ends by an error waits for the push that is under way, and one that was told to end: those who
# tell it kill it soon.
PATIENCE = 30.0
PATIENCE_OF_TERMINATED = 5.0


class PushingTrainer(ManyProcessesTrainer):
    """
    [`~transformers.Trainer`] that shares checkpoints and model as `hub_strategy` says, and survives a Hub that fails.

    A push that fails during training is tried again at its end, and then told of with the command that does it later; if
    training ends by an error, an interrupt or SIGTERM, it is told of at once. A run that is resumed takes up what an earlier
    process has left. Before training, a repository that cannot be written to is an error. No file that is saved holds the
    token.
    """

    pushes: BackgroundPushes | None = None
    # Step of the model whose card is in `output_dir` and tells more than the trainer knows, such as comparisons.
    step_of_card: int | None = None

    @property
    def unpushed(self) -> list[str]:
        """What of this run is not on the Hub and how to push it, one message each. On the main process."""
        return [] if self.pushes is None else self.pushes.messages()

    @property
    def terminated(self) -> bool:
        """Whether training ended early because the process was told to end."""
        return False

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """[`~transformers.Trainer.train`], which tells however it ends what was not pushed."""
        if self.pushes is not None:
            if resume_from_checkpoint:
                self.pushes.take_up()
            for message in self.pushes.left_by_others():
                logger.warning(message)
        # Even if it ends at the same step, its model is another.
        self.step_of_card = None
        try:
            output: TrainOutput = super().train(resume_from_checkpoint, *args, **kwargs)
        except BaseException:
            # Not tried again: other processes wait for this one to end.
            self._tell_unpushed(PATIENCE)
            raise
        return output

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository of `hub_model_id`, unless it is there, and see that the token may write to it.

        Raises:
            PushError: It may not, or the Hub does not answer; on all processes.
        """
        answer: list[str | None] = [None, None]
        if self.is_world_process_zero():
            repository = self._repository(token, private)
            try:
                answer[0] = full_name = repository.open(patience=Patience.of(self.args))
                self.pushes = BackgroundPushes(repository, full_name, Path(str(self.args.output_dir)))
            except Exception as error:
                answer[1] = (
                    f"The repository {repository.name!r} cannot be written to: {brief(error, repository.secret)}"
                )
        if world_size() > 1:
            dist.broadcast_object_list(answer)
        if answer[1] is not None:
            raise PushError(f"{answer[1]}\nNothing was trained yet; without `push_to_hub` it can be.")
        self.hub_model_id = answer[0]
        self.push_in_progress = None

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> "CommitInfo | None":
        """
        Save model and processor in `output_dir` and push that folder, in one commit.

        Args:
            commit_message (`str`, *optional*):
                Title of the commit.
            blocking (`bool`, *optional*, defaults to `True`):
                Only `True`: a push whose failure nobody sees may lose the model.
            token (`str`, *optional*):
                Token with the right to write. By default `hub_token`.
            revision (`str`, *optional*):
                Branch. By default `hub_revision`.
            private (`bool`, *optional*):
                Whether a new repository is private. By default `hub_private_repo`.
            kwargs:
                Arguments of `create_model_card`. If that fails, an error is logged, and the rest is pushed.

        Returns:
            [`~huggingface_hub.CommitInfo`]: The commit, on the main process.

        Raises:
            PushError: It failed. The folder is complete; the message says how to push it later.
            ValueError: `blocking` is False.
            TypeError: `create_model_card` has no such argument.
        """
        # Mistakes are told before anything is done, and by all processes.
        inspect.signature(self.create_model_card).bind(**kwargs)
        if not blocking:
            raise ValueError("`blocking` is False, but only a push that is waited for can say that it failed.")
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        repository = self._repository(token, private, revision)
        folder, patience, left_out = Path(str(self.args.output_dir)), Patience.of(self.args), IGNORED
        if self.step_of_card != self.state.global_step and is_generated(folder):
            left_out = [*IGNORED, *self._write_card(repository, kwargs)]
        elif kwargs:
            logger.warning(f"The card is kept as it is, without {', '.join(kwargs)}: the Trainer has not written it.")
        commit = upload(folder, repository, commit_message or "End of training", ignored=left_out, patience=patience)
        # Not before: the Hub is well, and models of earlier steps are outdated.
        self._finish_current_push()
        return commit

    def _write_card(self, repository: Repository, kwargs: dict[str, Any]) -> list[str]:
        """Write the card; names of files that must not be pushed since it failed. What was trained is pushed without it."""
        tags = [kwargs.pop("tags")] if isinstance(kwargs.get("tags"), str) else list(kwargs.pop("tags", None) or [])
        tags += [tag for tag in getattr(self.model, "model_tags", None) or () if tag not in tags]
        name = kwargs.pop("model_name", None) or repository.name.rpartition("/")[2]
        try:
            # It asks the Hub for the licence of the base model.
            with bounded_silence:
                self.create_model_card(model_name=name, **(kwargs | ({"tags": tags} if tags else {})))
        except Exception as error:
            reason = brief(error, repository.secret)
            logger.error(
                f"The model card could not be written, so the model is pushed without one: {reason}\n"
                "`push_to_hub` pushes it once that is mended."
            )
            return [CARD]
        return []

    def _repository(self, token: str | None, private: bool | None, revision: str | None = None) -> Repository:
        return Repository(
            name=self.args.hub_model_id or Path(str(self.args.output_dir)).absolute().name,
            token=self.args.hub_token if token is None else token,
            private=self.args.hub_private_repo if private is None else private,
            revision=self.args.hub_revision if revision is None else revision,
        )

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        strategy, folder = HubStrategy(self.args.hub_strategy), Path(checkpoint_folder)
        if self.pushes is None or strategy == HubStrategy.END:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        # The card is that of the last push: what `peft` writes beside adapters would replace it.
        places: dict[str, list[str]] = {"": [*TRAINING_STATE, *self._state_files(), CARD]}
        if strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            places["last-checkpoint" if strategy == HubStrategy.CHECKPOINT else folder.name] = []
        by_steps = self.args.save_strategy == SaveStrategy.STEPS
        at = f"step {self.state.global_step}" if by_steps else f"epoch {int(self.state.epoch or 0)}"
        self.pushes.start(
            folder,
            self.state.global_step,
            f"Training in progress, {at}",
            places,  # type: ignore[arg-type]  # of sequences
            wait_in_line=self.args.hub_always_push,
        )

    def _state_files(self) -> list[str]:
        """Patterns of files of a checkpoint that are no part of the model."""
        return []

    def _finish_current_push(self) -> None:
        if self.pushes is None:
            return
        if self.is_in_train and self.terminated:
            self._tell_unpushed(PATIENCE_OF_TERMINATED)
            return
        for message in self.pushes.finish(Patience.of(self.args), others_wait=world_size() > 1):
            logger.error(message)

    def _tell_unpushed(self, patience: float) -> None:
        for message in [] if self.pushes is None else self.pushes.stop(patience):
            logger.error(message)

    def before_checkpoint(self, folder: Path) -> None:
        """Before anything is written into the folder of a checkpoint: leave alone what is being pushed."""
        if self.pushes is not None and folder.is_dir():
            keep_apart(folder, self.pushes.folder)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # It pickles the arguments.
        with replaced(self.args, hub_token=None):
            super()._save(output_dir, state_dict)
