"""The interactive description, ``/docs``: a page that loads files of this service only."""

from functools import cache
from importlib.resources import files
from typing import Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)

# The styles that Swagger UI gives its elements, and the pictures in its style sheet, are in line.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Relative: the web server in front may serve it below another path.
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>specserver</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START: Final = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
  validatorUrl: null,
});
"""
_KINDS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}


@router.get("/docs")
def page() -> HTMLResponse:
    """Return the page."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})


@router.get("/docs/{name}")
def part(name: str) -> Response:
    """Return a file that the page needs."""
    if name == "start.js":
        return Response(_START, media_type="text/javascript")
    if name not in _KINDS:
        raise HTTPException(404)
    headers = {"Cache-Control": "max-age=86400"}
    return Response(_read(name), media_type=_KINDS[name], headers=headers)


@cache
def _read(name: str) -> bytes:
    """Return a file of Swagger UI, as it comes with the package."""
    return (files("fastapi_swagger") / "resources" / name).read_bytes()
