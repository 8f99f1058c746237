"""PNG images of the service: bytes with methods to show, save and open them."""

import os
import struct
import sys
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ...errors import BadParameter
from ...extras import require

if TYPE_CHECKING:
    from PIL.Image import Image


class PngImage(bytes):
    """The bytes of a PNG that work as an image of Pillow, too; a notebook shows the picture.

    ``IPython.display.Image(picture)``, ``PIL.Image.open(BytesIO(picture))`` and
    ``plt.imshow(picture)`` take it as it is, and it has the methods of Pillow's images, such as
    ``crop``. NumPy makes no array of bytes; ``np.asarray(picture.image)`` is the array of pixels.
    """

    __slots__ = ()

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # type: ignore[explicit-override]
        """Answer ``isinstance`` as an image of Pillow does; `type` is not changed."""
        pillow = sys.modules.get("PIL.Image")
        return pillow.Image if pillow else PngImage

    def __getattr__(self, name: str) -> Any:
        """Return what only the image of Pillow has, such as ``crop``; no private names."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.image, name)

    def __reduce__(self) -> tuple[Any, ...]:  # type: ignore[explicit-override]
        """Return how to make a copy: pickle asks `__class__`, too."""
        return PngImage, (bytes(self),)

    def __int__(self) -> int:
        """Raise `BadParameter`: NumPy, asked for an array, takes bytes for one number."""
        raise BadParameter("picture", self, "its pixels are np.asarray(picture.image)")

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
    def mode(self) -> str:
        """Pillow's name of what a pixel of the file is: ``P``, a place in a palette."""
        return self._opened().mode

    @property
    def image(self) -> "Image":
        """The picture as an image of Pillow, red, green and blue."""
        return self._opened().convert("RGB")

    def save(
        self,
        path: str | os.PathLike[str] | IO[bytes],
        format: str | None = None,  # noqa: A002
        **options: Any,
    ) -> None:
        """Write the picture to a file; in the format of its ending, as Pillow does.

        Parameters
        ----------
        path
            File to write: its name, or an open one.
        format
            Format of Pillow, such as ``'JPEG'``; by default that of the ending, or PNG.
        options
            Options of that format, as Pillow has them.
        """
        target = Path(path).expanduser() if isinstance(path, str | os.PathLike) else path
        ending = target.suffix.lower() if isinstance(target, Path) else ""
        if (format or "PNG").upper() != "PNG" or ending not in {".png", ""}:
            self.image.save(target, format=format, **options)
        elif isinstance(target, Path):
            target.write_bytes(self)
        else:
            target.write(self)

    def show(self) -> None:
        """Show the picture in a window."""
        self.image.show()

    def _repr_png_(self) -> bytes:
        """Return the picture for a notebook."""
        return bytes(self)

    def _opened(self) -> "Image":
        """Return the file as Pillow opens it."""
        require("an image of Pillow", "notebook", "PIL")
        from PIL import Image

        return Image.open(BytesIO(self))

    def _shown(self) -> str:
        width, height = self.size
        return f"<PngImage {width} × {height}, {len(self):,} bytes>"

    # The bytes themselves would be 60 kB of escapes.
    __repr__ = _shown
