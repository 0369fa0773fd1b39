"""What of a push can be known to fail before anything is trained."""

from typing import TYPE_CHECKING

from hf_contrastive.hub.failures import without_secrets


if TYPE_CHECKING:
    from hf_contrastive.training.training_args import ContrastiveTrainingArguments


def check_can_push(args: "ContrastiveTrainingArguments") -> None:
    """Raise a ValueError before any training if a push is asked for and cannot work: no token, or no name.

    It asks nobody; whether the Hub takes the token, the trainer finds out when it is built.
    """
    if not args.push_to_hub:
        return
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not in `__all__`

    if args.hub_token is None and get_token() is None:
        raise ValueError(
            "`push_to_hub` needs a token, and none was found. Log in with `hf auth login`, or set the environment "
            "variable HF_TOKEN, then start again. Nothing was trained yet."
        )
    if not args.hub_model_id:
        raise ValueError(
            "`push_to_hub` needs `hub_model_id`, the name of the repository: --hub_model_id me/my-encoder."
        )
    try:
        validate_repo_id(args.hub_model_id)
    except HFValidationError as error:
        raise ValueError(
            f"`hub_model_id` is {without_secrets(repr(args.hub_model_id))}, which is no name of a repository: "
            f"{without_secrets(str(error))}"
        ) from None
