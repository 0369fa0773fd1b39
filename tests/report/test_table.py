"""The table of results, and the file they are kept in."""

from dataclasses import replace
from pathlib import Path

from hf_contrastive.metrics import full_geometry_report
from hf_contrastive.metrics.measures import read_key
from hf_contrastive.report import RunResult, geometry_table, read_results, result_table, write_results
from tests.report.runs import make_embeds, make_result


def cells(table: str) -> dict[str, list[str]]:
    """Values by label, a row each."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {label: values for label, *values in rows}


def test_has_a_column_for_every_run():
    table = result_table([make_result("clip_divergence"), make_result("clip", shift=0.1)])
    found = cells(table)
    assert found["measure"] == ["clip_divergence", "clip"]
    assert found["alignment image text"] == ["0.500", "0.600"]


def test_lines_are_equally_long_whatever_the_names():
    table = result_table([make_result("a"), make_result("a loss with a name longer than its numbers", shift=1.5)])
    lines = table.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len({line.count("|") for line in lines}) == 1
    assert set(lines[1]) <= set("|:- ")


def test_values_stand_beside_their_reference():
    found = cells(result_table([make_result()]))
    assert found["modality gap image text (floor)"] == ["0.250 (0.125)"]
    assert found["uniformity image (floor)"] == ["-2.50 (-3.90)"]
    assert found["separability image text (chance 0.5)"] == ["0.750"]
    assert found["image to text, R@1 (chance 0.02)"] == ["0.400"]


def test_shows_every_recall_the_scale_and_the_time():
    found = cells(result_table([make_result()]))
    assert found["image to text, R@10 (chance 0.2)"] == ["0.900"]
    assert found["image to text, median rank (chance 25.5)"] == ["2.0"]
    assert found["loss scale (1/temperature)"] == ["50.0"]
    assert found["training, seconds"] == ["61"]


def test_floors_have_no_row_of_their_own():
    assert not [label for label in cells(result_table([make_result()])) if "floor" in label and "(floor)" not in label]


def test_a_measure_that_a_run_lacks_is_a_dash():
    other = make_result("clip")
    del other.metrics["geometry/separability_image_text"]
    assert cells(result_table([make_result(), other]))["separability image text (chance 0.5)"] == ["0.750", "-"]


def test_a_measure_that_only_a_later_run_has_is_shown():
    own = make_result("clip")
    del own.metrics["geometry/separability_image_text"]
    assert cells(result_table([own, make_result()]))["separability image text (chance 0.5)"] == ["-", "0.750"]


def test_a_name_with_a_bar_keeps_its_column():
    lines = result_table([make_result("a|b")]).replace(r"\|", "").splitlines()
    assert len({line.count("|") for line in lines}) == 1


def test_results_survive_their_file(tmp_path: Path):
    results = [make_result("clip"), make_result("größer", shift=0.1)]
    write_results(results, tmp_path / "metrics.json")
    assert read_results(tmp_path / "metrics.json") == results
    assert all(isinstance(result, RunResult) for result in read_results(str(tmp_path / "metrics.json")))


def full_result(name: str = "clip") -> RunResult:
    result = make_result(name)
    embeds = {m: x.double() for m, x in make_embeds().items()}
    return replace(result, metrics=result.metrics | full_geometry_report(embeds))


def test_all_measures_stand_in_one_of_two_tables_and_the_short_one_stays_short():
    result = full_result()
    short, rest = cells(result_table([result])), cells(geometry_table([result]))
    shown = [reading for key in result.metrics if (reading := read_key(key))]
    for reading in shown:
        found = [label for table in (short, rest) for label in table if label.split(" (")[0] == reading.label]
        assert len(found) == 1, reading.key
    assert len(short) < 20
    assert not set(short) & set(rest) - {"measure", ":" + "-" * (max(map(len, rest)) - 1)}


def test_the_rest_of_the_geometry_is_grouped_and_beside_its_references():
    result = full_result()
    table = geometry_table([result, make_result("old")])
    found = cells(table)
    labels = list(found)
    assert labels.index("**gap between modalities**") < labels.index(
        "energy distance image text (deviation of chance)"
    )
    assert labels.index("energy distance image text (deviation of chance)") < labels.index("**spread**")
    value, floor = (result.metrics[f"geometry/energy_distance_{name}image_text"] for name in ("", "null_std_"))
    # A run that was measured before there was such a measure has a dash.
    assert found["energy distance image text (deviation of chance)"] == [f"{value:.3f} ({floor:.3f})", "-"]
    assert found["anderson darling image (Gaussian 0.384)"][1] == "-"
    assert len({len(line) for line in table.splitlines()}) == 1


def test_results_without_further_measures_have_no_second_table():
    result = make_result()
    metrics = {name: value for name, value in result.metrics.items() if "effective_rank" not in name}
    assert geometry_table([replace(result, metrics=metrics)]) == ""
