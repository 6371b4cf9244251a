"""From a model directory to the Hub: its forms, each verified, and a card of the measured records.

The token comes from HF_TOKEN alone. It goes into the header of requests and nowhere else.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from quantale.core import files
from quantale.core.errors import EnvironmentLackingError, HubError, UsageError
from quantale.core.progress import Progress
from quantale.export.card import Card, Form, records_of
from quantale.models.adapter_record import is_adapter
from quantale.models.foreign import reader_of
from quantale.models.load import first_line, load
from quantale.stages.export import export_model
from quantale.stages.requests import ExportRequest, PushRequest

TOKEN: Final = "HF_TOKEN"
PACKED_BRANCH: Final = "quantale"
_REPO: Final = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_FILES: Final = (
    "config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json",
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "chat_template.jinja", "ledger.json",
)  # fmt: skip
"""What is uploaded; a run's other records name folders and machines."""


@dataclass(frozen=True)
class _Prepared:
    """One form, ready to be uploaded."""

    form: Form
    folder: Path


FORMS: Final[dict[str, tuple[tuple[str, str | None], ...]]] = {
    "hf": (("hf", None),),
    "bitsandbytes": (("bitsandbytes", None),),
    "quantale": (("quantale", None),),
    "both": (("hf", None), ("quantale", PACKED_BRANCH)),
}
"""Forms and their branches by what `--format` says."""


def push_model(request: PushRequest, progress: Progress) -> dict[str, Any]:
    """Upload a model directory and return the `--json` fields.

    Everything is written and verified before the Hub is asked for anything. Raises
    EnvironmentLackingError without a token and HubError where the Hub refuses.
    """
    folder, token = _checked(request)
    with tempfile.TemporaryDirectory(prefix="quantale-push-") as scratch:
        prepared = [
            _prepare(kind, branch, request, Path(scratch), progress)
            for kind, branch in FORMS[request.form]
        ]
        records = records_of(folder, None if request.results is None else Path(request.results))
        for picture in records.pictures:
            for one in prepared:
                shutil.copyfile(picture, one.folder / picture.name)
        forms = [one.form for one in prepared]
        task = _task(prepared[0].folder)
        Card(request.repo, task, records, forms, request.base_model, request.licence)
        with _faults(token):
            api = HfApi(token=token)
            repo = request.repo if "/" in request.repo else f"{api.whoami()['name']}/{request.repo}"
            text = Card(repo, task, records, forms, request.base_model, request.licence).text()
            api.create_repo(repo, private=request.private, exist_ok=True)
            pages = [_upload(api, repo, one, text, progress) for one in prepared]
    return {
        "repo": repo,
        "private": request.private,
        "forms": [f"{form.kind} ({form.revision or 'main'})" for form in forms],
        "bytes": sum(form.bytes for form in forms),
        "url": pages[0],
    }


def _checked(request: PushRequest) -> tuple[Path, str]:
    """Return the folder and the token, after everything that can be refused at once was."""
    folder = Path(request.model)
    if not folder.is_dir() or reader_of(folder) is not None:
        raise UsageError(f"{folder}: no model directory of ours; only these are pushed")
    if not _REPO.fullmatch(request.repo):
        raise UsageError(f"repository {request.repo!r} is neither NAME nor OWNER/NAME")
    if is_adapter(folder) and request.form in ("quantale", "both"):
        raise UsageError(f"{folder}: is an adapter; push --format hf merges it into its base")
    if request.results is not None and not Path(request.results).exists():
        raise UsageError(f"no records at {request.results}")
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise EnvironmentLackingError(
            f"no {TOKEN} in the environment; make a token with the right to write on the Hub and "
            f"export {TOKEN}"
        )
    return folder, token


def _prepare(
    kind: str, branch: str | None, request: PushRequest, scratch: Path, progress: Progress
) -> _Prepared:
    """Write one form into a folder of its own."""
    target = scratch / kind
    made = {"quantale": _packed}.get(kind, _exported(kind))
    note = made(request.model, target, progress)
    size = sum(path.stat().st_size for path in target.glob("*.safetensors"))
    return _Prepared(Form(kind, branch, size, note), target)


def _packed(model: str, target: Path, progress: Progress) -> str:
    """Copy the model as it is, after it was loaded once."""
    progress.stage("check")
    load(model)
    target.mkdir()
    for pattern in _FILES:
        for path in sorted(Path(model).glob(pattern)):
            shutil.copyfile(path, target / path.name)
    return "as it was measured, packed; needs `import quantale`."


def _exported(kind: str) -> Callable[[str, Path, Progress], str]:
    """Return what writes a form of another program."""

    def export(model: str, target: Path, progress: Progress) -> str:
        whole = target.with_name(f"{kind}-export")
        found = export_model(ExportRequest(model, kind), whole, resume=False, progress=progress)
        target.mkdir()
        for pattern in _FILES:
            for path in sorted(whole.glob(pattern)):
                shutil.copyfile(path, target / path.name)
        distance = f"KL to the model above {found['kl_mean']:.2g} nats a token on its own text"
        alone = {"hf": "full precision, needs transformers alone"}
        what = alone.get(kind, "needs transformers and its own package")
        return f"{what}; {found['grade']}, {distance}."

    return export


def _task(folder: Path) -> str:
    from quantale.models.load import auto_class, read_config

    name = auto_class(read_config(folder)).__name__
    return "text-classification" if "SequenceClassification" in name else "text-generation"


def _upload(api: HfApi, repo: str, one: _Prepared, card: str, progress: Progress) -> str:
    """Upload one form to its branch; returns the address of its commit."""
    progress.stage(f"upload {one.form.kind}")
    files.write_atomic(one.folder / "README.md", card)
    branch = one.form.revision
    if branch is not None:
        api.create_branch(repo, branch=branch, exist_ok=True)
    done = api.upload_folder(
        repo_id=repo,
        folder_path=one.folder,
        revision=branch,
        commit_message=f"Upload the {one.form.kind} form",
    )
    return str(done.commit_url)


@contextmanager
def _faults(token: str) -> Iterator[None]:
    """Turn what the Hub or the network refuses into one line without the token."""
    try:
        yield
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = first_line(error).replace(token, "***")
        raise HubError(f"the Hub did not take it: {reason}") from None
