"""A place on the sky, in every form that a caller may name it."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from specserver.client.inputs.sky_region import name_arguments, read_sky_region
from specserver.errors import BadParameter, BadRegion


def place(*args, **keywords):
    return read_sky_region(name_arguments(args, keywords))


TRIANGLE = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))


@pytest.mark.parametrize(
    "region",
    [
        list(TRIANGLE),
        [0.0, 0.0, 1.0, 0.0, 0.0, 1.0],
        np.array(TRIANGLE),
        np.array(TRIANGLE).ravel(),
        [*TRIANGLE, TRIANGLE[0]],
        SkyCoord([0, 1, 0], [0, 0, 1], unit="deg"),
    ],
)
def test_regions_of_every_form(region):
    assert np.allclose(place(region=region).polygon, TRIANGLE, atol=1e-12)
    if not isinstance(region, SkyCoord):
        assert place(region).polygon == TRIANGLE


@pytest.mark.parametrize(
    "region",
    [[], [(0, 0), (1, 1)], [1, 2, 3], [(0, 0), (1, float("inf")), (1, 1)], "circle", [[1]]],
)
def test_regions_that_are_none(region):
    with pytest.raises(BadRegion):
        place(region)


def test_positions_of_every_form():
    cone = (30.0, -5.0, 0.25)
    sky = SkyCoord(30.0, -5.0, unit="deg")
    assert place(*cone).cone == cone
    assert place(30.0, -5.0, size=0.25).cone == cone
    assert place(ra=30, dec=np.float32(-5), size=15 * u.arcmin).cone == cone
    assert place(pos=(30.0, -5.0), size=0.25).cone == cone
    for coord in (sky, sky.galactic, sky.fk5, sky.galactic.frame, sky.reshape(1)):
        assert place(coord, 0.25).cone == pytest.approx(cone, abs=1e-9)
        assert place(coord=coord, size=0.25).cone == pytest.approx(cone, abs=1e-9)
    assert place(constraint="z > 1").cone is None


def test_arguments_after_the_position_keep_their_order():
    sky = SkyCoord(30.0, -5.0, unit="deg")
    rest = {"constraint": "z>1", "out": "f", "context": "c", "profile": "p"}
    for args in ((1, 2, 3), (sky, 3), (list(TRIANGLE),)):
        named = name_arguments((*args, "z>1", "f", "c", "p"), {})
        assert {name: named[name] for name in rest} == rest
        with pytest.raises(TypeError, match="at most"):
            name_arguments((*args, "z>1", "f", "c", "p", "more"), {})
    assert name_arguments((sky, "z>1"), {"size": 3})["constraint"] == "z>1"
    with pytest.raises(TypeError, match="multiple values for argument 'ra'"):
        name_arguments((1, 2, 3), {"ra": 1})


@pytest.mark.parametrize(
    "keywords",
    [
        {"ra": 1, "dec": 2},
        {"ra": 1, "size": 2},
        {"size": 2},
        {"ra": 1, "dec": 2, "size": 3, "region": TRIANGLE},
        {"region": TRIANGLE, "size": 1},
        {"ra": "x", "dec": 2, "size": 3},
        {"coord": SkyCoord([1, 2], [3, 4], unit="deg"), "size": 1},
        {"coord": "12 34", "size": 1},
    ],
)
def test_positions_that_are_none(keywords):
    with pytest.raises(BadParameter):
        place(**keywords)
