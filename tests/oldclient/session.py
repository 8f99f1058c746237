"""One session with the predecessor's client, run by its own interpreter in its own process.

Usage: ``python session.py SERVICE_URL PLAN_JSON OUT_DIR``. The plan names positions and
identifiers; the answers go to ``OUT_DIR/answers.json`` and NumPy files beside it, for the test to
judge. Here nothing is judged, so that the old environment need not know the truth.
"""

import json
import socket
import sys
from pathlib import Path

import numpy as np
import requests  # noqa: TID251  the old client speaks through it, and is redirected in it
from astropy import units as u
from astropy.coordinates import SkyCoord

OLD_SERVICE = "https://datalab.noirlab.edu/spec"


def redirect(url, asked):
    """Send what goes to the old service to ``url``, and refuse every other host."""
    original = requests.Session.request

    def request(self, method, target, **options):
        asked.append(target)
        if target.startswith(OLD_SERVICE):
            target = url + target[len(OLD_SERVICE) :]
        if not target.startswith(url):
            raise requests.ConnectionError(f"no way from here to {target}")
        return original(self, method, target, **options)

    def request_by_name(self, *, method, url, **options):
        return request(self, method, url, **options)

    requests.Session.request = request_by_name


def allow_no_network():
    """Let the client find its own address, by a UDP socket, where there is no way out."""

    class Socket(socket.socket):
        def connect(self, address):
            if self.type == socket.SOCK_DGRAM:
                address = ("127.0.0.1", 1)
            super().connect(address)

    socket.socket = Socket


def texts(values):
    """Return values as text: JSON numbers would lose the last digits of identifiers."""
    return [str(value) for value in np.asarray(values).tolist()]


def rows(table):
    """Return the columns of a table as text."""
    return {name: texts(table[name]) for name in table.colnames}


def attempt(call, *args, **options):
    """Return the name of the error that a call raises, or None."""
    try:
        call(*args, **options)
    except Exception as error:  # noqa: BLE001  which one is the answer
        return type(error).__name__
    return None


def ask_service(spec, url, context):
    """Everything but queries and spectra."""
    return {
        "url": spec.get_svc_url(),
        "alive": spec.client.isAlive(url),
        "dead": spec.client.isAlive(url + "/nowhere"),
        "contexts": spec.list_contexts(),
        "contexts_json": spec.list_contexts(fmt="json"),
        "context": spec.list_contexts(context),
        "profiles": spec.list_profiles(),
        "catalogs": spec.catalogs(),
        "set_profile": spec.set_profile("default"),
        "set_wrong_profile": attempt(spec.set_profile, "nonesuch"),
        "set_wrong_context": attempt(spec.set_context, "nonesuch"),
        "context_after": spec.get_context(),
        "set_context": spec.set_context(context),
        "context_set": spec.get_context(),
    }


def ask_catalogue(spec, plan, out):
    """All forms of query."""
    ra, dec, size = plan["cone"]
    position = SkyCoord(ra * u.deg, dec * u.deg, frame="icrs")
    region = [tuple(vertex) for vertex in plan["polygon"]]
    saved = out / "ids.csv"
    return {
        "everything": texts(spec.query(constraint="")),
        "position": texts(spec.query(ra, dec, size)),
        "skycoord": texts(spec.query(position, size)),
        "region": texts(spec.query(region)),
        "nothing": texts(spec.query(ra, dec, size, constraint="z > 1000")),
        "either": texts(spec.query(ra, dec, size, constraint="z > 0 or z <= 0")),
        "constraint": texts(spec.query(constraint="class = 'STAR'")),
        "limit": texts(spec.query(ra, dec, size, constraint="order by specobjid limit 1")),
        "tuple": rows(spec.query(ra, dec, size, fields="tuple")),
        "columns": rows(spec.query(fields="specobjid,z,ra,dec,class")),
        "saved": spec.query(ra, dec, size, out=str(saved)),
    }


def fetch_spectra(spec, plan, out):
    """All forms of getSpec that the old client offers, but the files themselves."""
    ids = [int(number) for number in plan["ids"]]
    saved = out / "some.txt"
    # Of numbers on both sides of 2^63 the old client makes floats.
    saved.write_text("".join(f"{number}\n" for number in ids if number < 2**63))
    np.save(out / "single.npy", spec.getSpec(ids[0]))
    np.save(out / "single_uint64.npy", spec.getSpec(np.uint64(ids[0])))
    np.save(out / "single_text.npy", spec.getSpec(str(ids[0])))
    np.save(out / "single_tuple.npy", spec.getSpec(tuple(plan["tuple"])))
    np.save(out / "single_aligned.npy", spec.getSpec([ids[0]], align=True))
    np.save(out / "values.npy", spec.getSpec(ids[0], values="flux,ivar"))
    np.save(out / "aligned.npy", spec.getSpec(ids, align=True))
    np.save(out / "aligned_array.npy", spec.getSpec(np.array(ids, dtype="u8"), align=True))
    np.save(out / "cutout.npy", spec.getSpec(ids, align=True, cutout=plan["cutout"]))
    np.savez(out / "list.npz", *spec.getSpec(ids))
    np.savez(out / "file.npz", *spec.getSpec(str(saved)))
    frames = spec.getSpec(ids, fmt="pandas")
    np.savez(out / "pandas.npz", *[frame.to_records(index=False) for frame in frames])
    np.savez(out / "tables.npz", *[t.as_array() for t in spec.getSpec(ids, fmt="tables")])
    one = spec.getSpec(ids[0], fmt="Spectrum1D")
    stack = spec.getSpec(ids, fmt="Spectrum1D", align=True)
    np.save(out / "spectrum1d.npy", one.flux.to_value(u.Unit("1e-17 erg cm-2 s-1 AA-1")))
    return {
        "spectrum1d_wave": one.spectral_axis.to_value(u.AA).tolist(),
        "stack_shape": list(stack.flux.shape),
        "unknown": attempt(spec.getSpec, 5),
    }


def plot_spectrum(spec, plan):
    """Plot by identifier: the client asks the catalogue for the redshift."""
    spec.plot(int(plan["ids"][0]), rest_frame=False)
    return spec.plt.gca().get_xlabel()


def draw_pictures(spec, plan, out):
    """All pictures; the old client opens each as an image of Pillow, whose ``save`` it gives."""
    ids = [int(number) for number in plan["ids"]]
    first = tuple(plan["tuple"])
    spec.preview(ids[0]).save(out / "preview.png")
    # Of a tuple it makes a URL with blanks, which it cannot send; text without them works.
    spec.preview(f"({','.join(map(str, first))})").save(out / "preview_tuple.png")
    spec.plotGrid(ids[:4], 4, 1).save(out / "grid_wide.png")
    spec.plotGrid(ids[:4], 1, 4).save(out / "grid_tall.png")
    spec.plotGrid(np.array(ids, dtype="u8"), 2, 1, page=1).save(out / "grid_page.png")
    spec.plotGrid([first, first], 2, 1).save(out / "grid_tuples.png")
    spec.stackedImage(ids).save(out / "stack.png")
    spec.stackedImage(ids, width=300, height=200, inverse=True).save(out / "stack_size.png")
    (out / "stack_raw.png").write_bytes(spec.stackedImage(ids, fmt="raw", thickness=3))
    return {
        "unknown": attempt(spec.preview, 5),
        "unknown_grid": attempt(spec.plotGrid, [5], 1, 1),
        "unknown_stack": attempt(spec.stackedImage, [5]),
    }


def main():
    url, plan_file, folder = sys.argv[1:]
    plan, out, asked = json.loads(Path(plan_file).read_text()), Path(folder), []
    redirect(url, asked)
    allow_no_network()
    from dl import specClient as spec  # noqa: N813  its users call it so

    answers = {"asked_at_import": list(asked), "context_at_import": spec.client.context}
    spec.set_svc_url(url)
    answers["queries"] = ask_catalogue(spec, plan, out)
    answers["spectra"] = fetch_spectra(spec, plan, out)
    answers["plot_label"] = plot_spectrum(spec, plan)
    answers["pictures"] = draw_pictures(spec, plan, out)
    answers["service"] = ask_service(spec, url, plan["context"])
    (out / "answers.json").write_text(json.dumps(answers, indent=1))


if __name__ == "__main__":
    main()
