"""URLs of databases: nothing of a password is shown, however it is written."""

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from specserver.catalog.database_url import without_password
from specserver.catalog.postgres.database import Database
from specserver.errors import BadParameter

SIGNS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=4, max_size=20)
AWKWARD = st.text(st.sampled_from("/@:?#%&=,[] 12ab"), min_size=4, max_size=12)


def refused(url: str) -> str:
    """Return the message about a URL that cannot be read."""
    with pytest.raises(BadParameter) as error:
        Database(url)
    return error.value.message


@pytest.mark.parametrize(
    "password", ["se/cret", "pa@ss", "12/ret@x", "pa@ss/w@rd", "a?b=c@d", "12?port=x", "[x]:/y@"]
)
def test_a_password_with_signs_as_they_are_is_refused(password: str) -> None:
    message = refused(f"postgresql://spec:{password}@db.example.org/spectra")
    assert "%2F, @ as %40" in message
    assert message == refused("nothing")


@given(SIGNS | AWKWARD, st.booleans())
@example("se/cret", False)
@example("12/3456", False)
@example("w@rd.org", False)
def test_no_part_of_a_password_is_ever_shown(password: str, escaped: bool) -> None:
    written = quote(password, safe="") if escaped else password
    url = f"postgresql://spec:{written}@db.example.org:5432/spectra?connect_timeout=3"
    kept = without_password(url)
    assert kept == "postgresql://spec@db.example.org:5432/spectra?connect_timeout=3"
    try:
        database = Database(url)
    except BadParameter:
        assert not escaped
        assert refused(url) == refused("nothing")
    else:
        database.close()
        assert database.shown == "spectra on db.example.org"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql:///spectra", "spectra on local socket"),
        ("postgresql://spec@/spectra?host=/run/pg", "spectra on /run/pg"),
        ("postgresql://spec:p%40ss%2Fw@[::1]:5432/a%40b", "a@b on ::1"),
        ("postgresql://spec@one:5432,two:5433/spectra", "spectra on one,two"),
        ("postgres://db.example.org", "database on db.example.org"),
    ],
)
def test_usual_urls_are_read(url: str, shown: str) -> None:
    database = Database(url)
    database.close()
    assert database.shown == shown
    if ":p%40" not in url:
        assert without_password(url) == url
