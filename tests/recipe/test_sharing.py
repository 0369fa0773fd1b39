"""Arguments of a recipe for the card."""

import pytest

from hf_contrastive.recipe.sharing import SharingArguments


def test_the_language_of_the_data_is_taken_where_none_is_given():
    assert SharingArguments().sharing(["en"]).language == ["en"]
    assert SharingArguments(language=["de"], license="mit").sharing(["en"]).language == ["de"]


def test_a_licence_that_is_none_of_the_hubs_is_refused():
    with pytest.raises(ValueError, match="`license` is 'mine', but must be one of the Hub's"):
        SharingArguments(license="mine").sharing()
