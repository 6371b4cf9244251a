"""The doctor's rows: nothing needed is missing here, and every gap has its fix."""

import importlib.metadata

import pytest

from quantale.quant.kernels.aten import Aten
from quantale.stages import doctor


def test_this_machine_has_everything_that_is_needed() -> None:
    rows = doctor.diagnose()
    assert {"python", "torch", "transformers", "processor", "memory", "disk", "cuda", "gguf"} <= {
        row["check"] for row in rows
    }
    assert [row for row in rows if row["required"] and not row["ok"]] == []


def test_a_gap_comes_with_its_fix_and_nothing_else_does() -> None:
    assert all((row["fix"] is None) == row["ok"] for row in doctor.diagnose())


def test_every_extra_for_users_is_checked() -> None:
    declared = importlib.metadata.metadata("quantale").get_all("Provides-Extra") or []
    assert {extra for extra, _ in doctor.EXTRAS.values()} == set(declared) - {"dev"}


def test_a_package_of_another_version_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["torch<2.14,>=2.10", "absent>=1", 'gradio>=6; extra == "serve"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda _name: wanted)
    found = {"torch": "2.15.0"}

    def version(name: str) -> str:
        if name not in found:
            raise importlib.metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    rows = {row["check"]: row for row in doctor.diagnose()}
    assert not rows["torch"]["ok"]
    assert rows["torch"]["fix"] == "pip install 'torch<2.14,>=2.10'"
    assert rows["absent"]["detail"].startswith("missing")
    assert rows["absent"]["required"]
    assert rows["gradio"]["fix"] == "pip install 'quantale[serve]'"
    assert not rows["gradio"]["required"]


def test_every_kernel_has_a_row_that_says_what_it_needs_and_why_it_would_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Aten, "lacks", lambda _self: ["needs what is not there"])
    rows = {row["check"]: row for row in doctor.diagnose()}
    assert rows["kernel reference"]["ok"]
    assert rows["kernel reference"]["required"]
    assert not rows["kernel aten"]["ok"]
    assert not rows["kernel aten"]["required"]
    assert "fast; needs a processor with AVX2" in rows["kernel aten"]["detail"]
    assert "needs what is not there" in rows["kernel aten"]["fix"]
