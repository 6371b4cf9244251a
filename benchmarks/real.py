"""Our methods and the peers on one model, data and bits: `make real MODEL=... DATA=...`.

Makes every variant of `benchmarks.variants` in a process of its own, scores all of them on the
same documents and prints the table of `benchmarks.quality`. What is made stays in OUT, so that
a second call makes only what is new.
"""

import argparse
import re
from pathlib import Path

from safetensors.torch import save_file

from benchmarks.making import make
from benchmarks.quality import evaluate
from benchmarks.variants import OURS, PEERS
from quantale.core.records import read_json, write_json
from quantale.data.load import load_documents
from quantale.evaluation.language import LanguageSettings
from quantale.models.load import load
from quantale.stages.calibration import CalibrationText
from quantale.stages.quantize import source_of


def main() -> None:
    """Calibrate, make, score, print."""
    asked = _arguments()
    asked.out.mkdir(parents=True, exist_ok=True)
    text = load_documents(asked.calibration or f"{asked.data}[train]", split="train")
    documents = load_documents(
        asked.data if asked.calibration else f"{asked.data}[test]",
        split="test",
        limit=asked.documents,
    )
    calibration = CalibrationText(text, asked.samples, asked.length, seed=0)
    _check_same(asked.out, asked.model, calibration)
    windows = asked.out / "calibration.safetensors"
    if not windows.exists():
        model, tokenizer, _ = load(asked.model)
        save_file({"windows": calibration.windows(model, tokenizer)}, windows)
    chosen = [one for one in (*OURS, *PEERS) if re.search(asked.only, one.name)]
    make(chosen, asked.model, windows, asked.peers / "bin" / "python", asked.out)
    print(evaluate(asked.model, asked.out, documents, LanguageSettings(cut=asked.cut)))


def _check_same(out: Path, model: Path, calibration: CalibrationText) -> None:
    """Stop when OUT holds variants of another model or of other calibration data."""
    found = {
        "model": source_of(str(model)).digest,
        **calibration.parents,
        "samples": calibration.samples,
        "length": calibration.length,
    }
    path = out / "made-from.json"
    if path.exists() and read_json(path) != found:
        raise SystemExit(f"{out} holds variants of another model or calibration; choose --out")
    write_json(path, found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", required=True, help="in the grammar of --data; scored")
    parser.add_argument("--calibration", help="other data [default: the train part of --data]")
    parser.add_argument("--peers", type=Path, required=True, help="their environment")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--only", default="", help="make only variants whose name this regular expression finds"
    )
    parser.add_argument("--documents", type=int, default=100, help="scored, the first ones")
    parser.add_argument("--cut", type=int, help="only the first so many tokens of each")
    parser.add_argument("--samples", type=int, default=64, help="calibration windows")
    parser.add_argument("--length", type=int, default=None, help="tokens a window")
    return parser.parse_args()


if __name__ == "__main__":
    main()
