"""PNG images of the service: bytes with methods to show, save and open them."""

import os
import struct
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


class PngImage(bytes):
    """The bytes of a PNG; a notebook shows the picture.

    ``IPython.display.Image(picture)`` and ``PIL.Image.open(BytesIO(picture))`` take it as it is.
    """

    __slots__ = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        # The header is always the first chunk (PNG specification, 11.2.2).
        width, height = struct.unpack(">II", self[16:24])
        return width, height

    @property
    def width(self) -> int:
        """Width, pixels."""
        return self.size[0]

    @property
    def height(self) -> int:
        """Height, pixels."""
        return self.size[1]

    @property
    def image(self) -> "Image":
        """The picture as an image of Pillow, red, green and blue."""
        from PIL import Image

        # The file has places in a palette, not levels of brightness.
        return Image.open(BytesIO(self)).convert("RGB")

    def save(self, path: str | os.PathLike[str], format: str | None = None) -> None:  # noqa: A002
        """Write the picture to a file; in the format of its ending, as Pillow does.

        Parameters
        ----------
        path
            File to write.
        format
            Format of Pillow, such as ``'JPEG'``; by default that of the ending, or PNG.
        """
        target = Path(path).expanduser()
        if (format or "PNG").upper() == "PNG" and target.suffix.lower() in {".png", ""}:
            target.write_bytes(self)
            return
        self.image.save(target, format=format)

    def show(self) -> None:
        """Show the picture in a window."""
        self.image.show()

    def _repr_png_(self) -> bytes:
        """Return the picture for a notebook."""
        return bytes(self)

    def _shown(self) -> str:
        width, height = self.size
        return f"<PngImage {width} × {height}, {len(self):,} bytes>"

    # The bytes themselves would be 60 kB of escapes.
    __repr__ = _shown
