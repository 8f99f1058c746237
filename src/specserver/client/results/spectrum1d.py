"""The Spectrum of results, which is also an instance of Spectrum1D, its old name.

Importing this module imports specutils.
"""

from typing import Any

import specutils

_Named = getattr(specutils, "Spectrum1D", specutils.Spectrum)
"""The old name, where specutils still has it."""


class Spectrum(_Named):  # type: ignore[misc,valid-type]
    """A Spectrum of specutils."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        # That of Spectrum1D warns that its name is old.
        specutils.Spectrum.__init__(self, *args, **keywords)
