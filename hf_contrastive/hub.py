"""Share what was trained: checked before training, complete on disk before the upload, resumable after a failure."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from hf_contrastive.training.training_args import ContrastiveTrainingArguments


# What a training run leaves in its folder that is not the model.
IGNORED = ["checkpoint-*", "compare_*", "runs/*", "*training_args.bin", "*optimizer.pt", "_*"]


def check_can_push(args: "ContrastiveTrainingArguments") -> None:
    """Raise a ValueError before any training if a push is asked for and cannot work: no token, or no name."""
    if not args.push_to_hub:
        return
    from huggingface_hub import get_token

    if args.hub_token is None and get_token() is None:
        raise ValueError(
            "`push_to_hub` needs a token, and none was found. Log in with `hf auth login`, or set the environment "
            "variable HF_TOKEN, then start again. Nothing was trained yet."
        )
    if not args.hub_model_id:
        raise ValueError(
            "`push_to_hub` needs `hub_model_id`, the name of the repository: --hub_model_id me/my-encoder."
        )


def push_folder(folder: str | Path, args: "ContrastiveTrainingArguments") -> str:
    """
    Upload a finished folder to the model repository `args.hub_model_id`, in one commit.

    Args:
        folder (`str` or `Path`):
            Folder with model, processor, card and plots. Checkpoints and other runs in it stay behind.
        args (`ContrastiveTrainingArguments`):
            `hub_model_id`, `hub_token`, `hub_private_repo` and `hub_revision` say where and how.

    Returns:
        `str`: Address of the commit.

    Raises:
        RuntimeError: The upload failed. The folder is complete; the message says how to upload it later.
    """
    from huggingface_hub import HfApi

    from hf_contrastive.report.remote import keep_edits_on_hub

    api, name = HfApi(token=args.hub_token), str(args.hub_model_id)
    try:
        repo = api.create_repo(name, private=args.hub_private_repo, exist_ok=True).repo_id
        keep_edits_on_hub(folder, repo, token=args.hub_token, revision=args.hub_revision)
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            ignore_patterns=IGNORED,
            revision=args.hub_revision,
            commit_message="Upload a dual encoder trained with hf_contrastive",
        )
    except Exception as error:
        excluded = " ".join(f"--exclude '{pattern}'" for pattern in IGNORED)
        raise RuntimeError(
            f"The push to {name!r} failed: {type(error).__name__}: {error}\n"
            f"Nothing is lost: {str(folder)!r} holds the model, its processor, card and plots. Push it later with\n"
            f"  hf upload {name} {shlex.quote(str(folder))} {excluded}"
        ) from error
    return str(commit.commit_url)
