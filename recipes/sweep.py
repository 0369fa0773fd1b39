"""Train the recipe's model under several settings and seeds, and print one table of means and spreads.

    python recipes/sweep.py recipes/sweeps/scenes.yaml

A sweep is a YAML file: `base` holds arguments of recipes/clip_decoupled.py that all runs share, `runs` the arguments of
each run by its name, `seeds` the seeds, which a run may replace by its own. Finished runs are kept in
`<output_dir>/sweep.json` and not repeated.
"""

import argparse
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from clip_decoupled import RecipeArguments, open_run

from hf_contrastive import ContrastiveTrainingArguments, PushError, get_loss, parse_recipe
from hf_contrastive.recipe import as_arguments, read_mapping
from hf_contrastive.recipe.parser import told_in_one_line
from hf_contrastive.recipe.run import make_trainer, train_and_test, use_cpu_cores
from hf_contrastive.report.result import RunResult, read_results, write_results


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


def read_sweep(path: Path) -> tuple[Path, dict[tuple[str, int], tuple[RecipeArguments, ContrastiveTrainingArguments]]]:
    """The folder of a sweep, and the arguments of its runs by name and seed, in the order in which they run.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no sweep, or a run cannot be one.
    """
    sweep = read_mapping(path)
    if set(sweep) != {"base", "runs", "seeds"}:
        raise ValueError(f"{path} must have the keys base, runs and seeds, but has {', '.join(map(str, sweep))}.")
    for key, kind in {"base": dict, "runs": dict, "seeds": list}.items():
        if not isinstance(sweep[key], kind) or not sweep[key]:
            raise ValueError(f"`{key}` in {path} must be a {kind.__name__} that is not empty, but is {sweep[key]!r}.")
    if "output_dir" not in sweep["base"]:
        raise ValueError(f"`base` in {path} must have an `output_dir`, where results are kept.")
    seeds = {name: (run or {}).get("seeds", sweep["seeds"]) for name, run in sweep["runs"].items()}
    return Path(sweep["base"]["output_dir"]), {
        (name, seed): _read_run(name, sweep["base"] | (run or {}) | {"seed": seed})
        for seed in sorted({seed for own in seeds.values() for seed in own})
        for name, run in sweep["runs"].items()
        if seed in seeds[name]
    }


def _read_run(name: str, run: dict[str, Any]) -> tuple[RecipeArguments, ContrastiveTrainingArguments]:
    argv = as_arguments({key: value for key, value in run.items() if key != "seeds"})
    try:
        recipe, training = parse_recipe(RecipeArguments, ContrastiveTrainingArguments, argv=argv)
        options: Any = training.loss_kwargs or {}
        get_loss(training.loss, **options)
    except ValueError as error:
        raise ValueError(f"Run {name!r}: {error}") from error
    return recipe, training


def main(path: Path) -> None:
    with told_in_one_line():
        # All of them before the first, as a mistake in the last would otherwise be told after hours.
        folder, runs = read_sweep(path)
        kept = folder / "sweep.json"
        kept.parent.mkdir(parents=True, exist_ok=True)
        results = read_results(kept) if kept.exists() else []
    done = {(result.name, result.seed) for result in results}
    pairs = None
    for (name, seed), (recipe, training) in runs.items():
        if (name, seed) in done:
            continue
        use_cpu_cores(recipe.cpu_threads)
        with told_in_one_line(PushError):
            model, processor, pairs = open_run(recipe, training, pairs)
            trainer = make_trainer(model, processor, training, pairs)
        results.append(train_and_test(trainer, pairs.test, name=name).result)
        write_results(results, kept)
        print(table(results[-1:]), flush=True)
    print(f"\n{path.name}: means over seeds (largest minus smallest)\n\n{table(results)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="YAML file of the sweep.")
    main(parser.parse_args().sweep)
