"""What `deploy/` ships is valid by its own tools, and agrees with the settings and the metrics."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path
from typing import Any, cast

import dockerfile
import promql_parser
import pytest
import urllib3
import yaml
from benchmarks.nginx import make_certificate

from fronting import program
from serving import Served, free_port, serve
from specserver.cli.serve import _KEEP_ALIVE_S
from specserver.server.runtime.error_responses import RETRY_AFTER_S
from specserver.settings import Settings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
OPERATE = (ROOT / "docs" / "how-to" / "operate.md").read_text("utf-8")
NGINX = (DEPLOY / "nginx" / "specserver.conf").read_text("utf-8")
USUAL = Settings()
OTHERS = {
    "LISTEN": "the unit's own, for --host",
    "CACHE": "of data in an object store",
    "CATALOG": "of a catalogue in PostgreSQL",
}
"""Variables that are no settings of `settings.py`."""
SECOND = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def value_of(directive: str, text: str = NGINX) -> float:
    """Return the one value of a directive of nginx: seconds, bytes or a number."""
    (found,) = re.findall(rf"^ *{directive} +(?:\d+ )?(\d+)([a-z]*);", text, re.MULTILINE)
    number, unit = int(found[0]), found[1]
    is_size = "size" in directive or "buffers" in directive
    return number * (BYTES[unit] if is_size else SECOND[unit or "s"])


# --- nginx ----------------------------------------------------------------------------------------


def test_limits_of_nginx_agree_with_the_settings() -> None:
    main, vos = NGINX.split("location /spec/vos/ {")
    assert value_of("client_max_body_size", main) == USUAL.max_body_bytes
    assert value_of("client_max_body_size", vos) == USUAL.vos_max_file_bytes
    assert value_of("large_client_header_buffers") == USUAL.max_header_bytes
    assert value_of("client_header_timeout") == USUAL.head_timeout_s
    assert value_of("client_body_timeout") == USUAL.body_stall_timeout_s
    assert value_of("send_timeout") == USUAL.send_timeout_s
    # The server's own answer comes first.
    assert value_of("proxy_read_timeout") > USUAL.first_byte_timeout_s
    # nginx ends an idle connection before the server does.
    assert 0 < value_of("keepalive_timeout") < _KEEP_ALIVE_S
    (rate,) = re.findall(r"\$specserver_caller +zone=specserver_caller:\S+ +rate=(\d+)r/s", NGINX)
    assert int(rate) == USUAL.caller_requests_per_s
    (burst,) = re.findall(r"zone=specserver_caller +burst=(\d+) nodelay", NGINX)
    assert int(burst) == USUAL.caller_burst


def test_errors_of_nginx_say_when_to_come_again_as_the_servers_do() -> None:
    assert set(re.findall(r"Retry-After (\d+) always", NGINX)) == {str(RETRY_AFTER_S)}
    bodies = re.findall(r"return \d+ '(.*)\\n';", NGINX)
    assert len(bodies) == 13
    for body in map(json.loads, bodies):
        assert set(body) == {"code", "message"}
    for body in bodies:
        assert set(re.findall(r"in (\d+) s", body)) <= {str(RETRY_AFTER_S)}


@pytest.mark.parametrize("own", ["nginx/specserver", "compose/nginx"])
def test_nginx_takes_the_files_that_are_shipped(own: str, tmp_path: Path) -> None:
    binary = program("nginx")
    make_certificate(tmp_path)
    (tmp_path / "specserver").mkdir()
    (tmp_path / "specserver.conf").write_text(NGINX, "utf-8")
    for file in (DEPLOY / own).glob("*.conf"):
        text = file.read_text("utf-8")
        text = text.replace("/etc/ssl/specserver", str(tmp_path))
        text = text.replace("/var/log/nginx", str(tmp_path)).replace("/dev/stdout", "/dev/null")
        # What this machine may lack: rights for low ports, IPv6, a name server.
        text = re.sub(r"listen \[::\].*\n", "", text)
        text = re.sub(r"listen \d+", lambda _: f"listen 127.0.0.1:{free_port()}", text)
        text = re.sub(r"server node\d:", "server 127.0.0.1:", text)
        (tmp_path / "specserver" / file.name).write_text(text, "utf-8")
    conf = f"pid {tmp_path}/pid; events {{}} http {{ include specserver.conf; }}"
    (tmp_path / "nginx.conf").write_text(conf)
    command = [binary, "-t", "-e", str(tmp_path / "error.log"), "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


# --- systemd --------------------------------------------------------------------------------------


def units(folder: Path) -> list[str]:
    """Copy the units, with the program of this environment; return their names."""
    for file in (DEPLOY / "systemd").iterdir():
        text = file.read_text("utf-8")
        text = text.replace("/opt/specserver/current/bin/specserver", _command())
        (folder / file.name).write_text(text, "utf-8")
    names = ["specserver@6998.service", "specserver-maintain.service", "specserver-maintain.timer"]
    return [*names, "specserver-failed@specserver-maintain.service"]


def _command() -> str:
    found = Path(sys.executable).with_name("specserver")
    assert found.exists()
    return str(found)


def systemd_analyze(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    if (binary := shutil.which("systemd-analyze")) is None:
        pytest.skip("no systemd here")
    return subprocess.run([binary, *words], cwd=folder, capture_output=True, text=True, check=False)


def test_units_are_valid(tmp_path: Path) -> None:
    done = systemd_analyze(tmp_path, "verify", "--man=no", *(f"./{n}" for n in units(tmp_path)))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", ["specserver@.service", "specserver-maintain.service"])
def test_units_may_do_little(unit: str, tmp_path: Path) -> None:
    """Of 10.0, a service without any restriction has 9.6."""
    units(tmp_path)
    words = ("security", "--offline=true", "--no-pager", "--threshold=20")
    done = systemd_analyze(tmp_path, *words, unit)
    assert done.returncode == 0, done.stdout[-300:]


def test_a_unit_waits_for_the_end_of_its_server() -> None:
    given = dict(re.findall(r"^(\w+)=(.*)$", environment_file(), re.MULTILINE))
    unit = (DEPLOY / "systemd" / "specserver@.service").read_text("utf-8")
    (wait,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    takes = sum(float(given[f"SPECSERVER_DRAIN_{name}_S"]) for name in ("DELAY", "TIMEOUT"))
    assert takes + 5 <= int(wait)
    # Idle connections of nginx are gone before a server closes any.
    assert float(given["SPECSERVER_DRAIN_DELAY_S"]) > value_of("keepalive_timeout")


def test_a_server_is_started_again_however_long_its_data_are_away() -> None:
    unit = (DEPLOY / "systemd" / "specserver@.service").read_text("utf-8")
    (wait,) = re.findall(r"^RestartSec=(\d+)$", unit, re.MULTILINE)
    assert re.search(r"^StartLimitIntervalSec=0$", unit, re.MULTILINE), "systemd gives up, else"
    assert "StartLimitBurst" not in unit
    # Not so often that its log is full of it.
    assert 2 < int(wait) <= 30


def test_both_units_are_named_where_another_folder_is_made_writable() -> None:
    """What `specserver maintain` may not write is noticed by nobody."""
    said = re.compile("ReadWritePaths")
    for name in ("specserver@.service", "specserver-maintain.service"):
        unit = (DEPLOY / "systemd" / name).read_text("utf-8")
        assert "ProtectSystem=strict" in unit
        (comment,) = (part for part in unit.split("\n\n") if said.search(part))
        named = re.findall(r"systemctl edit ([a-z@-]+)", comment)
        assert sorted(named) == ["specserver-maintain", "specserver@"]
    (line,) = (line for line in OPERATE.splitlines() if said.search(line))
    assert "`systemctl edit specserver@`" in line
    assert "`systemctl edit specserver-maintain`" in line


def test_root_is_told_of_a_unit_that_has_failed(tmp_path: Path) -> None:
    maintain = (DEPLOY / "systemd" / "specserver-maintain.service").read_text("utf-8")
    assert "\nOnFailure=specserver-failed@%p.service\n" in maintain
    unit = (DEPLOY / "systemd" / "specserver-failed@.service").read_text("utf-8")
    (command,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    words = shlex.split(command.replace("%i", "specserver-maintain").replace("%H", "node1"))
    for name, does in (("journalctl", 'echo "log of: $@"'), ("sendmail", f"cat >{tmp_path}/mail")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o700)
    path = f"{tmp_path}:/usr/bin:/bin"
    subprocess.run(words, check=True, env={"PATH": path})
    mail = message_from_string((tmp_path / "mail").read_text())
    assert (mail["To"], mail["Subject"]) == ("root", "specserver-maintain failed on node1")
    assert "log of: --unit=specserver-maintain " in mail.get_payload()


def console_of(heading: str) -> list[str]:
    """Return the commands in the first block of a part of the page for operators."""
    part = OPERATE.partition(f"\n## {heading}\n")[2]
    block = re.search(r"^```console\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
    assert block
    return re.findall(r"^[#>] (.*)$", block[1], re.MULTILINE)


def test_a_fresh_machine_has_the_data_folder_before_the_server_begins() -> None:
    (data,) = re.findall(r"^SPECSERVER_DATA=(.*)$", environment_file(), re.MULTILINE)
    commands = console_of("One machine")
    (makes,) = (
        at for at, line in enumerate(commands) if re.search(rf"^install -d .* {data}$", line)
    )
    assert "-o specserver -g specserver" in commands[makes]
    (begins,) = (at for at, line in enumerate(commands) if line.startswith("systemctl enable"))
    assert commands.index("useradd --system --home-dir /var/lib/specserver specserver") < makes
    assert makes < begins


def test_a_version_is_installed_beside_the_one_in_use(tmp_path: Path) -> None:
    """The units use a link, which the commands of the page switch; and back."""
    link = tmp_path / "opt" / "specserver" / "current"
    program = f"{link}/bin/specserver"
    units = [*(DEPLOY / "systemd").glob("*.service")]
    used = {word for unit in units for word in re.findall(r"/opt/\S+", unit.read_text("utf-8"))}
    assert {f"{tmp_path}{word}" for word in used} == {program}

    def run(heading: str) -> None:
        for line in console_of(heading):
            if "/opt/specserver" not in line:
                continue
            text = line.replace("/opt/", f"{tmp_path}/opt/")
            # A folder in the place of an environment, with a program in the place of pip.
            text = re.sub(r"^python3 -m venv (\S+)$", r"mkdir -p \1/bin", text)
            text = re.sub(r"^(\S+)/pip install .*$", r"cp /bin/true \1/specserver", text)
            subprocess.run(["sh", "-c", text], check=True)

    run("One machine")
    first = link.resolve()
    assert (first / "bin" / "specserver").exists()
    run("Update without a pause")
    assert Path(program).resolve() != first / "bin" / "specserver"
    assert Path(program).exists()
    assert (first / "bin" / "specserver").exists(), "servers that run still read its modules"
    link.resolve().rename(tmp_path / "gone")
    assert not Path(program).exists()


def environment_file() -> str:
    return (DEPLOY / "systemd" / "specserver.env").read_text("utf-8")


def test_variables_are_settings() -> None:
    known = {name.upper() for name in Settings.model_fields} | set(OTHERS)
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".json"]
    named = {name for path in files for name in re.findall(r"SPECSERVER_(\w+)", path.read_text())}
    assert {"DATA", "DRAIN_DELAY_S"} <= named
    assert named <= known


# --- Containers -----------------------------------------------------------------------------------

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text("utf-8"))


def test_the_compose_file_has_the_published_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    file = DEPLOY / "compose" / "compose.yaml"
    done = subprocess.run([*command, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_compose_file_is_whole() -> None:
    services = COMPOSE["services"]
    given = (DEPLOY / "compose" / "example.env").read_text("utf-8")
    text = (DEPLOY / "compose" / "compose.yaml").read_text("utf-8")
    assert set(re.findall(r"\$\{(\w+)", text)) == set(re.findall(r"^(\w+)=", given, re.MULTILINE))
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if not source.startswith("."):
                assert source in COMPOSE["volumes"]
            elif source != "./certificates":
                assert (DEPLOY / "compose" / source).exists()
    nodes = re.findall(r"^server (\w+):6998", _compose_nodes(), re.MULTILINE)
    assert set(nodes) == {name for name in services if name.startswith("node")}
    assert all(service["logging"] == {"driver": "local"} for service in services.values()), "logs"
    wait = re.fullmatch(r"(\d+)s", services["node1"]["stop_grace_period"])
    assert wait
    image = _environment_of_the_image()
    takes = sum(float(image[f"SPECSERVER_DRAIN_{name}_S"]) for name in ("DELAY", "TIMEOUT"))
    assert takes + 5 <= int(wait[1])


IMAGE_OF_NGINX = """
server {{
    listen {port};
    server_name localhost;
    location / {{ return 200 'Welcome to nginx!'; }}
}}
"""
"""What its ``conf.d/default.conf`` does."""


def test_the_nginx_of_the_containers_leads_visitors_to_tls(tmp_path: Path) -> None:
    """It has the image's own files, and over them what the compose file mounts."""
    binary = program("nginx")
    plain, secure = free_port(), free_port()
    make_certificate(tmp_path)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "default.conf").write_text(IMAGE_OF_NGINX.format(port=plain))
    for volume in COMPOSE["services"]["nginx"]["volumes"]:
        source, target, _ = volume.split(":")
        if target.startswith("/etc/nginx/"):
            place, given = tmp_path / Path(target).relative_to("/etc/nginx"), DEPLOY / "compose"
            copy = shutil.copytree if (given / source).is_dir() else shutil.copyfile
            copy(given / source, place)
    for file in tmp_path.rglob("*.conf"):
        text = file.read_text("utf-8").replace("/etc/ssl/specserver", str(tmp_path))
        text = text.replace("/dev/stdout", "/dev/null")
        text = re.sub(rf"listen (80|{plain})\b", f"listen 127.0.0.1:{plain}", text)
        text = text.replace("listen 443", f"listen 127.0.0.1:{secure}")
        file.write_text(re.sub(r"server node\d:", "server 127.0.0.1:", text), "utf-8")
    kinds = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in
                    ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))  # fmt: skip
    conf = f"daemon off; pid {tmp_path}/pid; events {{}} http {{ {kinds} include conf.d/*.conf; }}"
    (tmp_path / "nginx.conf").write_text(conf)
    command = [binary, "-e", str(tmp_path / "error.log"), "-c", str(tmp_path / "nginx.conf")]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        retries = urllib3.Retry(connect=50, backoff_factor=0.05, backoff_max=0.2, redirect=False)
        for name in ("spectra.example.org", "archive.example.net", "localhost"):
            answer = urllib3.request(
                "GET", f"http://127.0.0.1:{plain}/spec/ping", headers={"Host": name},
                retries=retries, redirect=False,
            )  # fmt: skip
            assert answer.status == 308, answer.data
            assert answer.headers["Location"] == f"https://{name}/spec/ping"
        with urllib3.PoolManager(ca_certs=str(tmp_path / "fullchain.pem")) as pool:
            url = f"https://localhost:{secure}/nowhere"
            answer = pool.request("GET", url, headers={"Host": "archive.example.net"})
        assert answer.json()["code"] == "http_404"
    finally:
        running.terminate()
        running.wait(10)


def _compose_nodes() -> str:
    return (DEPLOY / "compose" / "nginx" / "nodes.conf").read_text("utf-8")


def _instructions() -> list[tuple[str, tuple[str, ...]]]:
    """Return the instructions of the Dockerfile, as Docker's own parser reads them."""
    found = dockerfile.parse_file(str(DEPLOY / "Dockerfile"))
    return [(command.cmd.upper(), command.value) for command in found]


def _environment_of_the_image() -> dict[str, str]:
    (words,) = [value for name, value in _instructions() if name == "ENV"]
    return dict(zip(words[::2], words[1::2], strict=True))


def test_the_image_runs_the_service_without_rights() -> None:
    given = _instructions()
    last = dict(given)
    assert last["USER"] == ("specserver",)
    assert last["STOPSIGNAL"] == ("SIGTERM",)
    assert last["ENTRYPOINT"] == ("specserver",)
    assert last["CMD"][:1] == ("serve",)
    assert "/health/ready" in " ".join(last["HEALTHCHECK"])
    make = (ROOT / "Makefile").read_text("utf-8")
    (version,) = re.findall(r"^UV *:= uv==(\S+)$", make, re.MULTILINE)
    assert any(f"uv=={version}" in " ".join(value) for name, value in given if name == "RUN")
    # What is copied is not left out of what Docker is sent.
    kept = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    copied = {word for name, value in given if name == "COPY" for word in value[:-1]}
    assert copied - {"/opt/specserver"} == kept


# --- Prometheus and Grafana -----------------------------------------------------------------------

DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "specserver.json").read_text("utf-8"))
ALERTS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text("utf-8"))


def questions() -> Iterator[str]:
    """Yield the expressions of all panels and alerts, with Grafana's variables replaced."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            text = cast("str", target["expr"])
            text = text.replace("$__rate_interval", "5m").replace("$job", ".*")
            yield text.replace("$instance", ".*")
    for group in ALERTS["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def test_questions_are_promql() -> None:
    asked = list(questions())
    assert len(asked) > 25
    for question in asked:
        assert "$" not in question
        promql_parser.parse(question)
    with pytest.raises(ValueError, match="parenthesis"):
        promql_parser.parse("sum(rate(x[5m])")


@pytest.fixture(scope="module")
def metrics(mock_data: Path, mock_survey: Path) -> str:
    """What a server counts, after some requests."""
    with serve(mock_data, mock_survey) as running:
        return _asked(running)


def _asked(running: Served) -> str:
    body = {"ids": "\n".join(map(str, running.ids[:3].tolist()))}
    assert urllib3.request("POST", f"{running.url}/bulk/spectra", json=body).status == 200
    url = running.url.replace("/spec", "/metrics")
    return urllib3.request("GET", url).data.decode()


def test_what_panels_and_alerts_name_is_counted(metrics: str) -> None:
    there = set(re.findall(r"^(specserver_\w+)(?:{| )", metrics, re.MULTILINE))
    # A counter with labels has no series before the first event; its kind is stated all the same.
    there |= {f"{name}" for name in re.findall(r"^# TYPE (specserver_\w+)", metrics, re.MULTILINE)}
    named = {name for asked in questions() for name in re.findall(r"specserver_\w+", asked)}
    assert len(named) > 12
    assert named <= there
    labels = set(re.findall(r"by \(([\w, ]+)\)", " ".join(questions())))
    used = {label for some in labels for label in re.split(", *", some)}
    shown = set(re.findall(r'[{,](\w+)="', metrics)) | {"instance", "kind", "outcome"}
    assert used <= shown
    # And nothing that is counted is forgotten.
    kinds = "_(total|bucket|count|sum|created)$"
    counted, asked = ({re.sub(kinds, "", name) for name in some} for some in (there, named))
    assert counted == asked


def test_the_dashboard_can_be_imported() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    taken = set[tuple[int, int]]()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["targets"]


def test_alerts_say_what_to_do() -> None:
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
    assert {rule["alert"] for rule in rules} <= set(re.findall(r"`(Specserver\w+)`", OPERATE))


def test_promtool_takes_the_rules() -> None:
    if (binary := shutil.which("promtool")) is None:
        pytest.skip("no promtool: it is in Debian's package prometheus, of 96 MB")
    for words in (("rules", "alerts.yml"), ("config", "scrape.yml")):
        command = [binary, "check", words[0], str(DEPLOY / "prometheus" / words[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
