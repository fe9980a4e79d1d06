"""What serves of an answer that reached its token limit."""

import pytest

from umi.grammar import whole_sentences


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Rome is the capital of Italy. Its popula", "Rome is the capital of Italy."),
        ("It is 3.5 miles. Then 4.2 km it", "It is 3.5 miles."),
        ("Cities:\n1. Paris\n2. Rome\n3. Lon", "Cities:\n1. Paris\n2. Rome"),
        ("The list is empty. The list is empty. The lis", "The list is empty."),
        ("Yes! Is it? It is. Is it? No.", "Yes! Is it? It is."),
        ("tiger and lion and tig", "tiger and lion and …"),
        ("tiger", "tiger …"),
        ("", ""),
    ],
)
def test_a_cut_answer_ends_after_a_sentence_and_before_the_first_that_is_said_twice(text: str, kept: str) -> None:
    assert whole_sentences(text) == kept
