"""Defects of diffusers' classes: every example in docs/diffusers_findings.md shows the one that it names."""

import re

import pytest
import torch

from tests.helpers import ROOT
from vae_lab.families import FAMILIES

SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.S | re.M)
SECTIONS = dict(SECTION.findall((ROOT / "docs" / "diffusers_findings.md").read_text("utf-8")))
EXAMPLES = {name: re.findall(r"^```python\n(.*?)^```$", text, re.S | re.M) for name, text in SECTIONS.items()}
NO_VAE = {"The scheduler's shift"}


@pytest.mark.parametrize("name", SECTIONS)
@torch.no_grad()
def test_the_defect_is_still_there(name):
    (example,) = EXAMPLES[name]
    assert len([line for line in example.splitlines() if line]) <= 10
    torch.manual_seed(0)
    try:
        exec(compile(example, name, "exec"), {})
    except (Exception, pytest.fail.Exception) as error:
        pytest.fail(f"diffusers behaves differently: {name}. Change or remove its section and its records. {error!r}")


def test_records_name_the_same_findings():
    named = {finding for family in FAMILIES.values() for finding in family.findings}
    assert named == SECTIONS.keys() - NO_VAE


@pytest.mark.parametrize("name", SECTIONS)
def test_each_section_says_where_it_is_and_what_the_lab_does(name):
    assert re.search(r"`[\w/]+\.py:\d+`", SECTIONS[name])
    assert re.search(r"^In the lab: ", SECTIONS[name], re.M)
