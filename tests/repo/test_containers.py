"""The files for Docker keep what can be checked without Docker; none has been built here."""

import fnmatch
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT
from ruamel.yaml import YAML
from typer.main import get_command
from typer.testing import CliRunner

from quantale.cli.app import app

DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
HEALTH = ROOT / "docker" / "health.py"
KEY = "a key of some length"
_PINNED = re.compile(r"\d+\.\d+\.\d+-[\w.-]+")
_CONTINUED = re.compile(r"\\\n\s*")

every_dockerfile = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile: name and rest, continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    whole = _CONTINUED.sub("", "\n".join(lines)).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in whole if line.strip()]


def last_stage(path: Path) -> list[tuple[str, str]]:
    found = instructions(path)
    begin = max(i for i, (name, _) in enumerate(found) if name == "FROM")
    return found[begin:]


def of(name: str, found: list[tuple[str, str]]) -> list[str]:
    return [rest for instruction, rest in found if instruction == name]


def words(rest: str) -> list[str]:
    """Return the words of an instruction in JSON's form, the one that starts no shell."""
    found = json.loads(rest[rest.index("[") :])
    assert all(isinstance(word, str) for word in found)
    return list(found)


@pytest.fixture(scope="module")
def composition() -> Any:
    return YAML(typ="safe").load(ROOT / "compose.yaml")


def check_command(command: list[str]) -> None:
    """Assert that the command line has this verb and these options."""
    assert command[0] in CliRunner().invoke(app, ["--help"]).output
    verb: Any = get_command(app).commands[command[0]]  # type: ignore[attr-defined]
    known = {option for parameter in verb.params for option in parameter.opts}
    assert [word for word in command if word.startswith("--") and word not in known] == []


def test_there_is_one_for_the_cpu_and_one_for_gpus() -> None:
    assert [path.stem for path in DOCKERFILES] == ["cpu", "cuda"]


@every_dockerfile
def test_two_stages_begin_at_a_pinned_image(path: Path) -> None:
    bases = of("FROM", instructions(path))
    assert len(bases) == 2
    assert bases[0].endswith(" AS build")
    assert len({base.split()[0] for base in bases}) == 1
    assert all(_PINNED.fullmatch(base.split()[0].partition(":")[2]) for base in bases)


@every_dockerfile
def test_what_runs_is_not_root_and_is_quantale(path: Path) -> None:
    found = last_stage(path)
    names = [name for name, _ in found]
    (user,) = of("USER", found)
    assert user not in {"root", "0"}
    (made,) = of("RUN", found)
    assert re.search(rf"useradd .*--uid [1-9]\d+ .*\b{user}\b", made)
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")
    assert words(of("ENTRYPOINT", found)[0]) == ["quantale"]
    check_command(words(of("CMD", found)[0]))


@every_dockerfile
def test_the_pins_of_this_release_are_installed(path: Path) -> None:
    installs = [rest for rest in of("RUN", instructions(path)) if "pip install" in rest]
    assert "--constraint constraints.txt" in installs[-1]
    extras = re.findall(r"\.\[([\w,]+)\]", installs[-1])[0].split(",")
    project = (ROOT / "pyproject.toml").read_text()
    assert [extra for extra in extras if not re.search(rf"^{extra} = \[", project, re.M)] == []


@every_dockerfile
def test_every_file_that_is_copied_is_there_and_not_ignored(path: Path) -> None:
    allowed = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    copies = [rest.split() for rest in of("COPY", instructions(path)) if "--from" not in rest]
    sources = [source for copy in copies for source in copy[:-1]]
    assert "src" in sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [s for s in sources if not any(fnmatch.fnmatch(s, one) for one in allowed)] == []


@every_dockerfile
def test_health_is_asked_at_the_port_that_is_served(path: Path) -> None:
    (rest,) = of("HEALTHCHECK", last_stage(path))
    program, url = words(rest)[-2:]
    assert f"COPY docker/health.py {program}" in path.read_text()
    assert url == "http://127.0.0.1:8000/health"
    assert "8000" in of("EXPOSE", last_stage(path))[0].split()


def test_nothing_is_let_into_an_image_but_by_name() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert not any("env" in line or "key" in line for line in lines)


def test_ports_are_the_hosts_own_and_alike_inside_and_outside(composition: Any) -> None:
    for service in composition["services"].values():
        (port,) = service["ports"]
        address, outside, inside = port.split(":")
        assert address == "127.0.0.1"
        assert outside == inside


def test_every_service_runs_a_command_of_ours_with_a_key(composition: Any) -> None:
    assert set(composition["services"]) == {"serve", "demo", "serve-cuda"}
    for service in composition["services"].values():
        check_command(service["command"])
        at = service["command"].index("--host")
        assert service["command"][at + 1] == "0.0.0.0"
        assert service["environment"]["QUANTALE_API_KEY"].startswith("${QUANTALE_API_KEY:?")
        assert (ROOT / service["build"]["dockerfile"]).is_file()


def test_services_can_write_votes_and_temporary_files_alone(composition: Any) -> None:
    for service in composition["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["tmpfs"] == ["/tmp"]
        (models, *rest) = service["volumes"]
        assert models.endswith(":/run-folder:ro")
        assert rest in ([], ["votes:/votes"])


def test_no_file_holds_a_key() -> None:
    files = [*DOCKERFILES, ROOT / "compose.yaml", HEALTH, *(ROOT / "cloud").glob("*.yaml")]
    value = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)\w*\s*[:=]\s*[\"']?[\w-]{8,}", re.IGNORECASE)
    assert len(files) == 6
    assert [path.name for path in files if value.search(path.read_text())] == []
    assert value.search("QUANTALE_API_KEY: 0123456789abcdef")


class _Answering(http.server.BaseHTTPRequestHandler):
    """200 for those who know the key, else 401; 503 for /ill."""

    def do_GET(self) -> None:
        known = self.headers.get("authorization") == f"Bearer {KEY}"
        self.send_response(503 if self.path == "/ill" else 200 if known else 401)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def answering() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def asked(url: str, key: str | None) -> int:
    environment = {**os.environ, "http_proxy": "http://127.0.0.1:1"}
    environment.pop("QUANTALE_API_KEY", None)
    if key is not None:
        environment["QUANTALE_API_KEY"] = key
    command = [sys.executable, str(HEALTH), url]
    return subprocess.run(command, env=environment, timeout=60, check=False).returncode


def test_health_knows_the_well_from_the_ill() -> None:
    with answering() as url:
        assert asked(f"{url}/health", KEY) == 0
        assert asked(f"{url}/health", None) == 1
        assert asked(f"{url}/ill", KEY) == 1
    assert asked(f"{url}/health", KEY) == 1
