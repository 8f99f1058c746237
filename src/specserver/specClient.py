"""The documented module: every function of a client, bound to a default client.

>>> from specserver import specClient as spec
>>> quasars = spec.query(constraint="class = 'QSO' and z > 2 order by z limit 20")
>>> spectra = spec.getSpec(quasars)
"""

from .client.api import SpecClient
from .client.inspection import read_inspection
from .client.results.convert import to_pandas, to_Spectrum1D, to_Table
from .client.wavelengths import airtovac, vactoair
from .model.ids import pack_specobjid, unpack_specobjid

__all__ = [
    "airtovac",
    "catalogs",
    "getClient",
    "getGridPlot",
    "getSpec",
    "get_context",
    "get_profile",
    "get_svc_url",
    "get_token",
    "isAlive",
    "list_contexts",
    "list_profiles",
    "match",
    "pack_specobjid",
    "plot",
    "plotGrid",
    "preview",
    "prospect",
    "query",
    "read_inspection",
    "set_context",
    "set_profile",
    "set_svc_url",
    "set_token",
    "stack",
    "stackedImage",
    "to_Spectrum1D",
    "to_Table",
    "to_pandas",
    "unpack_specobjid",
    "vactoair",
    "vos",
    "write_table",
]

# A client contacts no service before its first request, so making it here is cheap.
_client = SpecClient()
# The old client's names of it.
sp_client = client = _client

isAlive = _client.isAlive
set_svc_url = _client.set_svc_url
get_svc_url = _client.get_svc_url
set_token = _client.set_token
get_token = _client.get_token
vos = _client.vos
set_context = _client.set_context
get_context = _client.get_context
list_contexts = _client.list_contexts
set_profile = _client.set_profile
get_profile = _client.get_profile
list_profiles = _client.list_profiles
catalogs = _client.catalogs
query = _client.query
match = _client.match
write_table = _client.write_table
getSpec = _client.getSpec
plot = _client.plot
prospect = _client.prospect
preview = _client.preview
plotGrid = _client.plotGrid
getGridPlot = _client.getGridPlot
stackedImage = _client.stackedImage
stack = _client.stack


def getClient(context: str = "default", profile: str = "default") -> SpecClient:
    """Return a client with its own context and profile, for the same service.

    An unknown context raises an error at the client's first request.

    Examples
    --------
    >>> desi = spec.getClient("desi_dr1")
    >>> len(desi.query(constraint="z > 1 limit 5"))
    5
    """
    client = SpecClient(context, profile, _client.session.chosen_url)
    client.set_token(_client.session.chosen_token)
    return client
