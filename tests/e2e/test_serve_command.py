"""`quantale serve` as a process: it starts, answers, refuses and stops."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from openai import OpenAI
from serving import ascii_tokenizer, tiny_chat
from tiny_models import tiny_gpt2

from quantale.cli.app import main
from quantale.serve.server import bind

KEY = "a key of some length"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    chat, plain = tmp_path_factory.mktemp("chat"), tmp_path_factory.mktemp("plain")
    made = tiny_chat()
    made.model.save_pretrained(chat)
    made.tokenizer.save_pretrained(chat)
    tiny_gpt2().save_pretrained(plain)
    ascii_tokenizer().save_pretrained(plain)
    return chat, plain


@contextmanager
def running(*words: str, key: str | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command; yield the process and the address it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "QUANTALE_API_KEY"}
    if key is not None:
        environment["QUANTALE_API_KEY"] = key
    command = [sys.executable, "-m", "quantale.cli", "serve", *words, "--port", "0"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        yield process, line.rpartition(" at ")[2].strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_several_models_are_served_and_a_signal_stops_it(folders: tuple[Path, Path]) -> None:
    with running(*map(str, folders)) as (process, url):
        client = OpenAI(base_url=url, api_key="none")
        names = [one.id for one in client.models.list()]
        assert names == [folder.name for folder in folders]
        for name in names:
            answer = client.completions.create(model=name, prompt="the", max_tokens=3, seed=1)
            assert answer.usage is not None
            assert answer.usage.completion_tokens <= 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 143


@pytest.mark.slow
def test_a_draft_is_served_with_its_model(folders: tuple[Path, Path]) -> None:
    chat = str(folders[0])
    with running(chat, "--draft", chat, "--slots", "1") as (_, url):
        client = OpenAI(base_url=url, api_key="none")
        answer = client.completions.create(model=folders[0].name, prompt="the", max_tokens=9)
        assert answer.choices


@pytest.mark.slow
def test_with_a_key_other_addresses_are_served_to_those_who_know_it(
    folders: tuple[Path, Path],
) -> None:
    with running(str(folders[1]), "--host", "0.0.0.0", key=KEY) as (_, url):
        local = url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{local}/models").status_code == 401
        known = {"authorization": f"Bearer {KEY}"}
        assert httpx.get(f"{local}/models", headers=known).status_code == 200
        assert httpx.get(f"{local}/models", headers=known | {"host": "evil"}).status_code == 421


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "QUANTALE_API_KEY"),
        (["--host", "203.0.113.9"], "QUANTALE_API_KEY"),
        (["--context", "65"], "2 to 64"),
        (["--slots", "0"], "slots"),
        (["other", "--draft", "another"], "one model"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    folders: tuple[Path, Path],
    words: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("QUANTALE_API_KEY", raising=False)
    assert main(["serve", str(folders[1]), "--port", "0", *words]) == 2
    error = capsys.readouterr().err
    assert said in error.splitlines()[-1]
    assert error.count("error: ") == 1


def test_a_port_that_is_taken_is_said(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with bind("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", str(folders[1]), "--port", port]) == 6
    assert f"cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err
