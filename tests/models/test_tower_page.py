"""The table of towers says what the tests try."""

from tests.models import test_multi_encoder, test_references
from tests.models.tower_page import BEGIN, COLUMNS, END, PAGE, tower_rows
from tests.models.tower_table import TABLE


def test_the_table_is_that_of_the_tests():
    # `python -m tests.models.tower_page` writes it.
    assert PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0] == tower_rows()


def test_each_tower_is_tried_with_what_its_columns_say():
    tests = {**vars(test_multi_encoder), **vars(test_references)}
    for name in COLUMNS.values():
        (mark,) = tests[name].pytestmark
        assert (mark.name, mark.args) == ("parametrize", ("name", list(TABLE)))
