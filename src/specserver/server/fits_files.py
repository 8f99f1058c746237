"""FITS files as whole answers: one file as it is, several as a ZIP archive."""

from fastapi.responses import Response

from ..errors import BadParameter
from ..formats.files import FileArchive
from ..service import Selection, SpectroscopicService
from ..wire.media_types import FITS, GZIP, ZIP
from .runtime.responses import Responder


def answer_files(
    responder: Responder, service: SpectroscopicService, selection: Selection, kind: str
) -> Response:
    """Return the FITS files of spectra, ``original`` or ``rebuilt``.

    FITS files one after the other could not be told apart, so several come as an archive.
    """
    if kind not in {"original", "rebuilt"}:
        raise BadParameter("fits", kind, "original or rebuilt")
    rebuilt = kind == "rebuilt"
    if selection.nspec != 1:
        headers = {"Content-Disposition": 'attachment; filename="spectra.zip"'}
        return responder.send(
            FileArchive,
            lambda: FileArchive(service.files(selection, rebuilt=rebuilt)),
            ZIP,
            nspec=selection.nspec,
            headers=headers,
        )
    file = next(service.files(selection, rebuilt=rebuilt))
    name = file.name.replace('"', "")
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    media_type = GZIP if name.lower().endswith(".gz") else FITS
    return responder.answer(lambda: iter([file.data]), media_type, nspec=1, headers=headers)
