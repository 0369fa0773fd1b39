"""Train the recipe's model under several settings and seeds, and print one table of means and spreads.

    python recipes/sweep.py recipes/sweeps/scenes.yaml

A sweep is a YAML file: `base` holds arguments of recipes/clip_decoupled.py that all runs share, `runs` the arguments of
each run by its name, `seeds` the seeds, which a run may replace by its own. Finished runs are kept in `<output_dir>/sweep.json` and not repeated.
"""

import statistics
import sys
from collections import defaultdict
from pathlib import Path

import yaml
from clip_decoupled import RecipeArguments, open_run

from hf_contrastive import ContrastiveTrainingArguments, parse_recipe
from hf_contrastive.recipe import as_arguments
from hf_contrastive.report.result import RunResult, read_results, write_results
from hf_contrastive.run import train_and_test, use_cpu_cores


COLUMNS = {
    "R@1 image to text": "retrieval/image_to_text_recall@1",
    "R@1 text to image": "retrieval/text_to_image_recall@1",
    "R@10 image to text": "retrieval/image_to_text_recall@10",
    "alignment": "geometry/alignment_image_text",
    "uniformity image": "geometry/uniformity_image",
    "uniformity text": "geometry/uniformity_text",
    "gap": "geometry/modality_gap_image_text",
    "gap floor": "geometry/modality_gap_floor_image_text",
    "separability": "geometry/separability_image_text",
    "scale": "logit_scale",
}


def table(results: list[RunResult]) -> str:
    """Mean and spread (largest minus smallest) over seeds, a row per setting."""
    by_name: dict[str, list[RunResult]] = defaultdict(list)
    for result in results:
        by_name[result.name].append(result)
    lines = ["| setting | seeds | " + " | ".join(COLUMNS) + " | gap / floor | seconds |"]
    lines.append("| :-- " + "| --: " * (len(COLUMNS) + 3) + "|")
    for name, runs in by_name.items():
        cells = [_cell([run.metrics[key] for run in runs]) for key in COLUMNS.values()]
        ratios = [run.metrics[COLUMNS["gap"]] / run.metrics[COLUMNS["gap floor"]] for run in runs]
        seconds = statistics.mean(run.train_seconds for run in runs)
        lines.append(f"| {name} | {len(runs)} | " + " | ".join(cells) + f" | {_cell(ratios)} | {seconds:.0f} |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    mean = f"{statistics.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({max(values) - min(values):.3f})"


def main(path: Path) -> None:
    sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
    base = sweep["base"]
    kept = Path(base["output_dir"]) / "sweep.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    results = read_results(kept) if kept.exists() else []
    done = {(result.name, result.seed) for result in results}
    pairs = None
    seeds = {name: run.get("seeds", sweep["seeds"]) for name, run in sweep["runs"].items()}
    for seed in sorted({seed for own in seeds.values() for seed in own}):
        for name, run in sweep["runs"].items():
            if seed not in seeds[name] or (name, seed) in done:
                continue
            run = {key: value for key, value in run.items() if key != "seeds"}
            recipe, training = parse_recipe(
                RecipeArguments, ContrastiveTrainingArguments, argv=as_arguments(base | run | {"seed": seed})
            )
            use_cpu_cores(recipe.cpu_threads)
            model, processor, pairs = open_run(recipe, training, pairs)
            results.append(train_and_test(model, processor, training, pairs, name=name).result)
            write_results(results, kept)
            print(table(results[-1:]), flush=True)
    print(f"\n{path.name}: means over seeds (largest minus smallest)\n\n{table(results)}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} SWEEP.yaml")
    main(Path(sys.argv[1]))
