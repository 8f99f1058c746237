"""What no linter holds: sizes and names of modules, and what the repository says of itself."""

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MAX_LINES = 400
MAX_FUNCTION = 60
"""Lines of a function, its documentation included; ruff bounds the statements."""
Function = ast.FunctionDef | ast.AsyncFunctionDef
SHAPE = re.compile(r"\b[0-9]D\[")
DOCUMENTED = ["model", "ops", "service"]
"""Packages whose public functions state the shapes of arrays."""
VAGUE = {"utils", "util", "helpers", "common", "misc", "core"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_a_module_is_short_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    assert path.stem not in VAGUE
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= MAX_FUNCTION, node.name


def array_names(paths: Iterable[Path]) -> re.Pattern[str]:
    """Return a pattern of the names that stand for arrays in annotations: aliases of `NDArray`."""
    named = {"NDArray", "Array", "ChunkedArray"}
    for path in paths:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name) and "NDArray" in ast.unparse(node.value):
                    named.add(target.id)
    return re.compile(rf"\b({'|'.join(sorted(named))})\b")


ARRAYS = array_names(SOURCES)


def public_functions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Yield the public functions of a module, and the public methods of its public classes."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body, f"{node.name}.")
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield prefix + node.name, node


@pytest.mark.parametrize("package", DOCUMENTED)
def test_docstrings_state_the_shapes_of_arrays(package: str) -> None:
    """Such as ``2D[nspec, npix]``: of each parameter and of the result, or ``each`` after one."""
    silent = []
    for path in sorted((ROOT / "src/specserver" / package).rglob("*.py")):
        for name, node in public_functions(ast.parse(path.read_text("utf-8")).body):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            stated = [ast.unparse(one.annotation) for one in given if one.annotation]
            returned = ast.unparse(node.returns) if node.returns else ""
            arrays = [text for text in (*stated, returned) if ARRAYS.search(text)]
            needed = sum("Callable" not in text for text in arrays)
            text = ast.get_docstring(node) or ""
            shapes = len(SHAPE.findall(text))
            # A line such as "flux, ivar : 2D[n, npix]" states the shape of both.
            shapes += sum(names.count(",") for names in re.findall(r"(?m)^ *(.*) : .*\dD\[", text))
            if shapes < needed and (not shapes or " each" not in text):
                silent.append(f"{path.name}:{node.lineno} {name}")
    assert silent == []


def test_nothing_is_evaluated_or_unpickled() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile", "__import__"}, path
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names]
                names.append(getattr(node, "module", None) or "")
                assert not {"pickle", "cloudpickle", "dill", "shelve", "marshal"} & set(names), path


def test_settings_are_read_in_one_place() -> None:
    """They are handed down from there as an argument."""
    made, named, environment = set(), set(), set()
    for path in SOURCES:
        name = str(path.relative_to(ROOT / "src/specserver"))
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Settings":
                made.add(name)
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and re.fullmatch(r"SPECSERVER_\w*", text):
                named.add(name)
            if getattr(node, "attr", "") in {"environ", "getenv"}:
                environment.add(name)
    assert made == {"settings.py"}
    # The server's settings; the options of the command line; what the client reads; the cache of
    # an object store, whose address and keys its library reads from the environment, too.
    far = {"data/remote/options.py", "data/remote/client.py"}
    commands = {"cli/console.py", "client/session.py"}
    assert named == {"settings.py", *commands, "data/remote/options.py"}
    # Options before a command are variables of the command; the last two read and set those of
    # prometheus_client and of the C library.
    command = {"cli/main.py", "cli/serve.py"}
    assert environment == {"client/session.py", *command, "server/runtime/metrics.py", *far}


DATA = ROOT / "src/specserver/data"
OTHERS = [path for path in SOURCES if DATA not in path.parents]
TOUCH_OTHER_FILES = {
    "files.py": "the atomic write and the lock, for data/",
    "damage.py": "the type of a file's status",
    "store/fits.py": "original files",
    "service/originals.py": "original files",
    "ops/wholefits.py": "original files",
    "export/draft.py": "the folder that an export writes",
    "ingest/plan.py": "files to be ingested",
    "ingest/executors.py": "the number of cores",
    "service/composite/scratch.py": "scratch files outside of the data folder",
    "server/dialects/access.py": "signals",
    "server/runtime/metrics.py": "counts that processes share",
    "processes.py": "processes",
}
"""Modules of the server's side that may import what works on files, and on what."""


def _texts(path: Path) -> set[str]:
    """Return the texts in a module but its docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    said = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {one.value for one in constants if one not in said and isinstance(one.value, str)}


def test_only_data_spells_what_is_in_a_data_folder() -> None:
    spelled = set[str]().union(*(_texts(DATA / name) for name in ("context.py", "root.py")))
    # Names of files, and the beginnings of such; plain words have other meanings elsewhere.
    names = {one for one in spelled if re.fullmatch(r"\w+\.\w+|[a-z]+-|[A-Z]+", one)}
    assert {"segment.json", "objects.parquet", "CURRENT", "tokens.lock", "seg-", "part-"} <= names
    whole = "|".join(re.escape(one) + ("" if one.endswith("-") else r"(?!\w)") for one in names)
    for path in OTHERS:
        found = [text for text in _texts(path) if re.search(rf"(?<!\w)({whole})", text)]
        assert not found, path


def test_only_data_touches_a_data_folder() -> None:
    """What handles give for libraries that open files is handed to a library, and not worked on."""
    for path in OTHERS:
        name = str(path.relative_to(ROOT / "src/specserver"))
        tree = ast.parse(path.read_text("utf-8"))
        imported = {
            alias.name if isinstance(node, ast.Import) else node.module or ""
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        outside = name.startswith(("client/", "cli/", "simulate/")) or name in TOUCH_OTHER_FILES
        assert outside or not imported & {"os", "shutil", "fcntl", "glob", "tempfile"}, name
        handed = {
            one
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            for one in (*node.args, *(each.value for each in node.keywords))
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "local_path":
                assert node in handed, f"{name}:{node.lineno}"


def test_the_repository_names_no_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    private = re.compile(r"(?<![\w.])/(?:work|farm|root)/")
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path == Path(__file__) or not path.is_file():
            continue
        found = private.search(path.read_bytes().decode("utf-8", "replace"))
        assert found is None, name
