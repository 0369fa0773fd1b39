"""Every kind of run, ended in every way and resumed: what is equal, bit for bit, to the run that was left alone."""

import tempfile
from pathlib import Path

from tests.training.killed_runs import RUNS, SCENARIOS, play


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = play(Path(folder), [(run, scenario) for run in RUNS for scenario in SCENARIOS])
    print("| run | ended | left on disk | resumed from | weights | queue | log |")
    print("| :-- | :-- | :-- | :-- | :-- | :-- | :-- |")
    for row in rows:
        cells = [row["run"], row["ended"], ", ".join(row["left"]), str(row["from"])]
        cells += ["equal" if row.get(name) else "DIFFERS" for name in ("weights", "queue", "log")]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
