"""What is told of errors that other programs raise."""

import pytest
import sqlalchemy as sa

from gateway.store import database
from umi.errors import first_line


@pytest.mark.parametrize(
    ("error", "told"), [(ValueError("\n one\ntwo"), "one"), (OSError(), "OSError"), (ValueError(" \n"), "ValueError")]
)
def test_an_error_is_told_by_its_first_line_or_by_its_kind(error: Exception, told: str) -> None:
    assert first_line(error) == database.first_line(error) == told


def test_of_a_databases_error_the_drivers_words_are_told_without_the_statement() -> None:
    error = sa.exc.OperationalError("SELECT secret", {}, OSError("no such host\nmore"))
    assert database.first_line(error) == "no such host"
