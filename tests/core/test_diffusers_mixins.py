"""diffusers' own tests of its models (tests/helpers/diffusers_mixins.py), on our classes and on AutoencoderKLWan."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.helpers import ROOT

CHECKOUT = os.environ.get("DIFFUSERS_TESTS", "")
here = pytest.mark.skipif(
    not Path(CHECKOUT, "tests/models/testing_utils/common.py").is_file(),
    reason="DIFFUSERS_TESTS names no checkout of diffusers with its tests",
)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, dict[str, set[str]]]:
    """{class: {"passed" | "failed" | "skipped": names of tests}}"""
    report = tmp_path_factory.mktemp("mixins") / "report.xml"
    options = f"-c {os.devnull} --import-mode=importlib -p no:cacheprovider -p no:warnings --rootdir".split()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, ROOT, "--junitxml", report, "tests/helpers/diffusers_mixins.py"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, dict[str, set[str]]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {"failure": "failed", "error": "failed", "skipped": "skipped"}
        kind = next((kinds[child.tag] for child in case if child.tag in kinds), "passed")
        outcomes = found.setdefault(case.get("classname", "").rpartition(".")[2], {"passed": set(), "failed": set()})
        outcomes.setdefault(kind, set()).add(case.get("name", ""))
    return found


@here
@pytest.mark.parametrize("name", ["TestSpatialVAE", "TestTemporalVAE", "TestVideoVAE"])
def test_ours_pass_what_wan_passes(results, name):
    """About 25 minutes: most of it is compilation."""
    ours, wan = results[name], results["TestWan"]
    assert not ours["failed"] & wan["passed"]
    assert len(ours["passed"]) >= 22 and len(ours["passed"]) >= len(wan["passed"]) > 15
