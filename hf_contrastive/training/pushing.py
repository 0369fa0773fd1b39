"""A Trainer whose pushes lose nothing: saved before it is pushed, tried again, reported if that was in vain."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from transformers.trainer_utils import HubStrategy, SaveStrategy
from transformers.utils import logging

from hf_contrastive.distributed import world_size
from hf_contrastive.hub.background import BackgroundPushes
from hf_contrastive.hub.contents import TRAINING_STATE
from hf_contrastive.hub.failures import PushError, brief
from hf_contrastive.hub.folders import upload
from hf_contrastive.hub.repositories import Repository
from hf_contrastive.training.processes import ManyProcessesTrainer
from hf_contrastive.training.replacing import replaced


if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


logger = logging.get_logger(__name__)


class PushingTrainer(ManyProcessesTrainer):
    """
    [`~transformers.Trainer`] that shares checkpoints and model as `hub_strategy` says, and survives a Hub that fails.

    A push that fails during training is tried again at its end, and then told of with the command that does it later.
    Before training, a repository that cannot be written to is an error. No file that is saved holds the token.

    Attributes:
        unpushed (`list[str]`): What was not pushed during training and how to push it, one message each.
    """

    pushes: BackgroundPushes | None = None
    unpushed: list[str] = []  # noqa: RUF012  # never changed in place

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository of `hub_model_id`, unless it is there, and see that the token may write to it.

        Raises:
            PushError: It may not, or the Hub does not answer; on all processes.
        """
        answer: list[str | None] = [None, None]
        if self.is_world_process_zero():
            repository = self._repository(token, private)
            try:
                answer[0] = full_name = repository.open()
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
                Arguments of `create_model_card`.

        Returns:
            [`~huggingface_hub.CommitInfo`]: The commit, on the main process.

        Raises:
            PushError: It failed. The folder is complete; the message says how to push it later.
        """
        if not blocking:
            raise ValueError("`blocking` is False, but only a push that is waited for can say that it failed.")
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        repository = self._repository(token, private, revision)
        tags = [kwargs.pop("tags")] if isinstance(kwargs.get("tags"), str) else list(kwargs.pop("tags", None) or [])
        tags += [tag for tag in getattr(self.model, "model_tags", None) or () if tag not in tags]
        name = kwargs.pop("model_name", None) or repository.name.rpartition("/")[2]
        self.create_model_card(model_name=name, **(kwargs | ({"tags": tags} if tags else {})))
        self._finish_current_push()
        return upload(str(self.args.output_dir), repository, commit_message or "End of training")

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
        places: dict[str, list[str]] = {"": [*TRAINING_STATE, *self._state_files()]}
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
        self.unpushed = self.pushes.finish()
        for message in self.unpushed:
            logger.error(message)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # It pickles the arguments.
        with replaced(self.args, hub_token=None):
            super()._save(output_dir, state_dict)
