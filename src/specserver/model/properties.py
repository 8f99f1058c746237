"""The properties of a HATS catalogue, as the text of its files: keys and values, a pair a line."""

from collections.abc import Mapping

_PLAIN = 0x7F


def properties_text(title: str, values: Mapping[str, object]) -> bytes:
    r"""Return the content of a file of properties, in ASCII.

    Backslashes are doubled, ends of lines become blanks, and other characters are written as
    ``\u0105``, which every reader of such files understands.

    Parameters
    ----------
    title : comment in the first line
    values : None: the key is left out
    """
    lines = [f"#{title}"]
    lines += [f"{key}={_escaped(str(value))}" for key, value in values.items() if value is not None]
    return "".join(f"{line}\n" for line in lines).encode("ascii")


def read_properties(content: bytes) -> dict[str, str]:
    """Return the pairs of a file of properties, as `hats` and `properties_text` write them."""
    found = {}
    for line in content.decode("utf-8", "replace").splitlines():
        text = line.strip()
        key, equals, value = text.partition("=")
        if equals and not text.startswith(("#", "!")):
            found[key.strip()] = value.strip()
    return found


def _escaped(text: str) -> str:
    """Return a value of one line in ASCII."""
    plain = " ".join(text.split()).replace("\\", "\\\\")
    # Characters beyond the first 65,536 are two units of UTF-16.
    return "".join(letter if ord(letter) < _PLAIN else _units(letter) for letter in plain)


def _units(letter: str) -> str:
    """Return a character as escaped units of UTF-16."""
    code = letter.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{code[at : at + 4]}" for at in range(0, len(code), 4))
