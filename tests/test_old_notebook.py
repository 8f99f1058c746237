"""A notebook in the idiom of the retired client runs with one changed line."""

import ast
import sys
import warnings
from binascii import b2a_base64
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image as Pillow

from serving import Served
from specserver import specClient
from specserver.client.plots.image import PngImage
from specserver.errors import BadParameter

NOTEBOOK = Path(__file__).parent / "data" / "old_client_notebook.txt"
WAS, IS = "from dl import specClient as spec", "from specserver import specClient as spec"


class Image:
    """What ``IPython.display.Image`` does with data: it sends the bytes as base64."""

    def __init__(self, data: Any, format: str, **options: Any) -> None:  # noqa: A002
        assert format == "png"
        assert options
        assert b2a_base64(data).startswith(b"iVBORw0KGgo")


class Notebook:
    """Runs cells one after the other, and keeps what they show."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self.shown: dict[str, Any] = {}
        """Value of the last expression of a cell, by the cell's number."""
        self.displayed: list[Image] = []

    def run(self, number: str, cell: str) -> None:
        """Run a cell as IPython does."""
        code = "\n".join(line for line in cell.splitlines() if not line.startswith("%"))
        tree = ast.parse(code)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, number, "exec"), self.names)
        if isinstance(last, ast.Expr):
            self.shown[number] = eval(
                compile(ast.Expression(last.value), number, "eval"), self.names
            )


@pytest.fixture(scope="module")
def notebook(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """The notebook, of which all cells have run."""
    made = Notebook()
    text = NOTEBOOK.read_text("utf-8")
    assert text.count(WAS) == 1
    display = ModuleType("IPython.display")
    display.Image, display.display = Image, made.displayed.append  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"[0-9]+ more .* primary spectr", UserWarning)
        warnings.filterwarnings("ignore", "the list has no such page", UserWarning)
        patch.setitem(sys.modules, "IPython.display", display)
        patch.setenv("SPECSERVER_URL", served.url)
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        plt.switch_backend("agg")
        for part in text.replace(WAS, IS).split("# In[")[1:]:
            number, _, cell = part.partition("]:\n")
            made.run(number, cell)
            plt.close("all")
        yield made


def test_every_cell_runs(notebook: Notebook) -> None:
    assert len(notebook.shown) > 30
    assert notebook.shown["2"] is True
    assert notebook.shown["8"] == "specobjid foo"
    assert specClient.get_context() == "default"


def test_listings_show_themselves_as_tables(notebook: Notebook) -> None:
    listing = notebook.shown["5"]
    assert listing._repr_html_().startswith("<table><thead><tr><th>context</th><th>survey</th>")
    assert listing._repr_html_().count("<tr>") == len(listing.splitlines())
    assert "<td>sdss_dr17</td><td>" in listing._repr_html_()
    assert repr(listing) == listing.rstrip()
    catalogs = notebook.names["catalogs"]
    assert catalogs.splitlines()[0].split() == ["catalog", "nrows", "ncolumns", "title"]


def test_pictures_are_bytes_and_images(notebook: Notebook) -> None:
    picture = notebook.names["img"]
    assert isinstance(picture, PngImage)
    assert isinstance(picture, bytes)
    assert isinstance(picture, Pillow.Image)
    drawn = plt.imshow(picture).get_array()
    assert drawn is not None
    assert np.array_equal(np.asarray(drawn)[..., :3], np.asarray(picture.image))
    with pytest.raises(BadParameter, match=r"np\.asarray\(picture\.image\)"):
        np.asarray(picture)
    with pytest.raises(AttributeError):
        picture._repr_jpeg_()


def test_lists_of_spectra_answer_as_arrays(notebook: Notebook) -> None:
    spectra = specClient.getSpec(notebook.names["id_list"])
    lengths = {len(one) for one in spectra}
    assert len(lengths) > 1
    assert spectra.shape == np.array(spectra).shape == (len(spectra),)
    assert spectra.dtype == object
    assert isinstance(spectra[1:3], type(spectra))
    pair = notebook.names["pair"]
    assert pair.shape == np.array(pair).shape == (2, len(pair[0]))
    assert np.array(pair)[1].tobytes() == pair[1].tobytes()
    assert (pair.ndim, pair.dtype) == (2, pair[0].dtype)


def test_spectra_are_of_the_old_class_and_keep_its_metadata(
    notebook: Notebook, recwarn: pytest.WarningsRecorder
) -> None:
    spectrum, record = notebook.names["spec1d"], notebook.names["same"]
    old = notebook.names["Spectrum1D"]
    assert isinstance(spectrum, old)
    assert spectrum.meta["ivar"].tobytes() == record["ivar"].tobytes()
    assert isinstance(spectrum[10:20], old)
    # Those of the old name are for callers who write it.
    assert not [each for each in recwarn if "deprecated" in str(each.message)]
    table = notebook.names["both"]
    assert table["flux"].unit == spectrum.flux.unit


def test_queries_in_the_form_that_is_asked_for(notebook: Notebook) -> None:
    ask = {"fields": "specobjid,z", "constraint": "limit 3"}
    table = specClient.query(**ask)
    assert specClient.query(**ask, fmt="array").dtype.names == ("specobjid", "z")
    frame = specClient.query(**ask, fmt="pandas")
    assert frame["specobjid"].tolist() == table["specobjid"].tolist()
    assert specClient.query(constraint="limit 3", fmt="table").colnames == ["specobjid"]
    tuples = specClient.query(constraint="limit 3", fields="tuple", fmt="Table")
    assert tuples.colnames == ["plate", "mjd", "fiberid", "run2d"]
    with pytest.raises(BadParameter, match="table, array or pandas"):
        specClient.query(**ask, fmt="csv")
    with pytest.raises(BadParameter, match="a constraint or fields"):
        specClient.query()


DESCRIBED = """\
id_list = spec.query (0.125, 12.123, 0.1)
for id in id_list:
    spec = spec.getSpec (id)

id_list = spec.query (0.125, 12.123, 0.1)
spec = spec.getSpec (id_list, fmt='numpy')

id_list = spec.query (0.125, 12.123, 0.1)
spec = spec.getSpec (id_list, fmt='numpy', align=True)

id_list = spec.query (0.125, 12.123, 0.1)
spec = spec.getSpec (id_list, cutout='6500-7200')

display(Image(spec.preview(id),
        format='png', width=400, height=100, unconfined=True))

for pg in range(3):
    data = spec.getGridPlot(id_list, 5, 5, page=pg)
    display(Image(data, format='png',
            width=400, height=100, unconfined=True))

display(Image(spec.stackedImage(id_list, fmt='png'),
        format='png', unconfined=True))

id_list = spec.query (0.125, 12.123, 0.1, 'z > 0', '', 'default', 'default', fields='specobjid',
                      primary=True, timeout=60, token='', debug=False, verbose=False)
df, spec1d, tab = (f(spec.getSpec(id)) for f in (spec.to_pandas, spec.to_Spectrum1D, spec.to_Table))
"""
"""Examples of the old service's description, and its arguments in their order."""


@pytest.mark.parametrize("example", DESCRIBED.split("\n\n"))
def test_examples_of_the_description_run(notebook: Notebook, example: str) -> None:
    """As they are written, and where the mock survey has a spectrum."""
    (number,) = notebook.names["every"]["specobjid"][:1]
    (ra, dec), *_ = specClient.query(
        fields="ra,dec", constraint=f"specobjid = {number}", fmt="array"
    )[["ra", "dec"]].tolist()
    for cell in (example, example.replace("0.125, 12.123, 0.1", f"{ra}, {dec}, 1e-4")):
        names = {**notebook.names, "id": int(number), "id_list": [number], "spec": specClient}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the list has no such page", UserWarning)
            warnings.filterwarnings("ignore", r".*(primary spectr|primary=False)", UserWarning)
            exec(compile(cell, "example", "exec"), names)
        if cell != example and "spec.getSpec (" in cell:
            assert np.shape(names["spec"])[-1:] > (100,)
