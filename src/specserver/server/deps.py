"""What handlers are given: the service and the settings of the running application."""

from typing import Annotated

from fastapi import Depends, Request

from ..service import SpectroscopicService
from ..settings import Settings


def get_service(request: Request) -> SpectroscopicService:
    """Return the service of the running application."""
    service: SpectroscopicService = request.app.state.service
    return service


def get_settings(request: Request) -> Settings:
    """Return the settings of the running application."""
    settings: Settings = request.app.state.settings
    return settings


Service = Annotated[SpectroscopicService, Depends(get_service)]
ServerSettings = Annotated[Settings, Depends(get_settings)]
