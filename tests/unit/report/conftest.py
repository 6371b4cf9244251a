"""The made-up experiment, and its page rendered once."""

import runpy
from pathlib import Path

import pytest

from quantale.report import page
from quantale.report.model import ReportData


@pytest.fixture(scope="package")
def report_data() -> ReportData:
    made: ReportData = runpy.run_path(str(Path(__file__).with_name("fake_report.py")))[
        "report_data"
    ]()
    return made


@pytest.fixture(scope="package")
def report_html(report_data: ReportData) -> str:
    return page.html(report_data)
