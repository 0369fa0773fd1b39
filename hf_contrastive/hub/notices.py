"""What is told of checkpoints that are not on the Hub: where they are, how to push them, what space they take."""

from pathlib import Path

from hf_contrastive.hub.lines import push_line
from hf_contrastive.hub.unpushed import UNPUSHED, Push, held_bytes, read_pushes


def told_unpushed(push: Push, reason: str) -> str:
    """That a push has not got to its places, why, and the line that pushes it now."""
    parts = ["the model"] * ("" in push.places) + ["the checkpoint"] * any(push.places)
    what = " and ".join(parts).capitalize()
    return (
        f"{what} of step {push.step} {'were' if len(parts) > 1 else 'was'} not pushed to {push.repository!r}: {reason}\n"
        f"Nothing is lost: all is complete in {str(push.folder)!r}. A run that is resumed pushes it at its end; now, this "
        f"does:\n  {push_line(push.folder)}"
    )


def told_space(folder: Path) -> str:
    """How many checkpoints of a run wait, where, and what they take of the disk that the run has given up."""
    waiting = len(read_pushes(folder))
    what = "1 checkpoint that is not on the Hub is" if waiting == 1 else f"{waiting} checkpoints not on the Hub are"
    return (
        f"Until then {what} kept in {str(folder / UNPUSHED)!r}, whatever `save_total_limit` deletes: "
        f"{held_bytes(folder) / 1e6:,.1f} MB of disk beyond the run's own so far."
    )
