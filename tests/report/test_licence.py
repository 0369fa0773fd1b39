"""What a card says of a licence."""

from typing import Any

import pytest

from hf_contrastive.report.licence import chosen_licence


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({}, "No licence was chosen"),
        ({"license": "unknown"}, "No licence was chosen"),
        ({"license": "mit"}, "`mit`, as chosen by the author."),
        ({"license": ["mit", "cc-by-4.0"]}, "`mit` and `cc-by-4.0`, as chosen by the author."),
        ({"license": "other", "license_name": "lab-1.0"}, "`lab-1.0`, as chosen"),
        ({"license": "other", "license_name": "lab-1.0", "license_link": "LICENSE"}, "[lab-1.0](LICENSE), as chosen"),
    ],
)
def test_a_licence_is_what_was_chosen_and_no_more(metadata: dict[str, Any], said: str):
    assert chosen_licence(metadata).startswith(said)
