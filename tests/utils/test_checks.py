import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from tests.helpers import ROOT
from vae_lab.utils.checks import (
    check_above,
    check_at_least,
    check_flag,
    check_multiples,
    check_one_of,
    check_text,
    finite,
    index_of,
    integer_within,
    plain,
)


def test_numbers_come_back_as_python_numbers():
    for found, expected in (
        (index_of("frame", np.int64(2), 3), 2),
        (integer_within("shift", -2, -2, 2), -2),
        (finite("factor", np.float32(0.5)), 0.5),
        (finite("factor", 3), 3.0),
    ):
        assert found == expected and type(found) is type(expected)


def test_what_json_cannot_hold_becomes_plain():
    values = {"factors": [Fraction(1, 2), np.float32(0.5)], "cell": (np.int64(1), True), "name": "x", "none": None}
    found = plain(values)
    assert found == {"factors": [0.5, 0.5], "cell": (1, True), "name": "x", "none": None}
    assert [type(value) for value in (*found["factors"], *found["cell"])] == [float, float, int, bool]


@pytest.mark.parametrize(
    ("check", "arguments", "message"),
    [
        (index_of, ("frame", 3, 3), "frame must be an integer from 0 to 2, got 3"),
        (index_of, ("frame", True, 3), "frame must be an integer from 0 to 2, got True"),
        (integer_within, ("shift", 2.0, -2, 2), "shift must be an integer from -2 to 2, got 2.0"),
        (finite, ("factor", float("nan")), "factor must be a finite number, got nan"),
        (finite, ("factor", 10**400), "factor must be a finite number, got 1000"),
        (finite, ("factor", "1"), "factor must be a finite number, got '1'"),
        (check_at_least, ("rate", -1, 0), "rate must be a number of at least 0, got -1"),
        (check_above, ("gain", 0, 0), "gain must be above 0 and finite, got 0"),
        (check_above, ("gain", float("inf"), 0), "gain must be above 0 and finite, got inf"),
        (check_above, ("gain", "much", 0), "gain must be above 0 and finite, got much"),
        (check_text, ("name", ""), "name must be a non-empty string, got ''"),
        (check_one_of, ("half", "third", ("a", "b")), "half must be one of a, b, got 'third'"),
        (check_flag, ("causal", 1), "causal must be True or False, got 1"),
        (check_multiples, ((16, 12), 8), "width (12) must be a multiple of 8"),
        (check_multiples, ((12, 16), 8, "ratio"), "height (12) must be a multiple of ratio (8)"),
    ],
)
def test_refused_values(check, arguments, message):
    with pytest.raises(ValueError) as refused:
        check(*arguments)
    assert str(refused.value).startswith(message)


def test_the_helpers_load_no_torch_and_no_numpy():
    light = "checks, exit_codes, extras, files, tables, text"  # as the docstring of the folder says
    code = f"import sys; from vae_lab.utils import {light}; print({{'numpy', 'torch'}} & {{*sys.modules}})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout == "set()\n"
