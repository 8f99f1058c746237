"""FITS files as whole answers: one file as it is, several as a ZIP archive."""

from fastapi.responses import Response, StreamingResponse

from ..errors import BadParameter
from ..formats.files import ZIP_TYPE, stream_zip
from ..formats.fits import MEDIA_TYPE
from ..service import Selection, SpectroscopicService


def answer_files(service: SpectroscopicService, selection: Selection, kind: str) -> Response:
    """Return the FITS files of spectra, ``original`` or ``rebuilt``.

    FITS files one after the other could not be told apart, so several come as an archive.
    """
    if kind not in {"original", "rebuilt"}:
        raise BadParameter("fits", kind, "original or rebuilt")
    files = service.files(selection, rebuilt=kind == "rebuilt")
    if selection.nspec != 1:
        headers = {"Content-Disposition": 'attachment; filename="spectra.zip"'}
        return StreamingResponse(stream_zip(files), media_type=ZIP_TYPE, headers=headers)
    file = next(files)
    name = file.name.replace('"', "")
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    media_type = "application/gzip" if name.endswith(".gz") else MEDIA_TYPE
    return Response(file.data, media_type=media_type, headers=headers)
