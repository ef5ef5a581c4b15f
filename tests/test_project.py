"""What holds the project together: floors, packages, notebooks without outputs, no path of one machine."""

import json
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from tests.helpers import ROOT

TRACKED = [
    ROOT / name
    for name in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    if (ROOT / name).is_file()
]


def test_only_viewers_imports_widgets():
    importing = re.compile(r"^\s*(import|from) (ipywidgets|anywidget)", re.M)
    found = [path for path in (ROOT / "vae_lab").rglob("*.py") if importing.search(path.read_text())]
    assert found == [ROOT / "vae_lab" / "viewers" / "widgets.py"]


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import vae_lab", ["numpy", "torch", "diffusers", "matplotlib", "av", "ipywidgets"]),
        ("import vae_lab.shapes", ["numpy", "torch"]),
        ("import vae_lab.__main__", ["numpy", "torch", "diffusers"]),
        ("from vae_lab import read_video, write_video, photo_clip", ["torch", "diffusers", "sklearn", "skimage"]),
        ("from vae_lab import CausalConv3d, psnr", ["diffusers", "skimage"]),
    ],
)
def test_imports_stay_light(statement, absent):
    code = f"{statement}\nimport sys\nprint([name for name in {absent} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stderr


def test_public_names_are_there():
    import vae_lab

    assert all(getattr(vae_lab, name) is not None for name in vae_lab.__all__)
    assert set(vae_lab.__all__) <= set(dir(vae_lab))
    with pytest.raises(AttributeError, match="No vae_lab attribute nothing"):
        vae_lab.nothing  # noqa: B018


def requirements(lines) -> dict[str, str]:
    """name -> version rule"""
    pairs = (re.fullmatch(r"([A-Za-z0-9_.-]+?)((?:==|>=).+)", line.strip()) for line in lines)
    return {pair[1].lower().replace("-", "_"): pair[2] for pair in pairs}


def test_pyproject_environment_and_constraints_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ranges = requirements(project["dependencies"] + project["optional-dependencies"]["test"])
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert f"python{project['requires-python']}" in conda
    pip = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    assert requirements(line for line in pip if not line.startswith("--")) == ranges
    assert "--constraint constraints.txt" in pip
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    end = lines.index("# what those bring along")
    direct = requirements(line for line in lines[:end] if line and not line.startswith("#"))
    assert set(direct) == set(ranges)
    assert direct["torch"] == "==2.13.0"
    number = lambda version: [int(part) for part in re.findall(r"\d+", version)]  # noqa: E731
    assert [name for name in ranges if number(direct[name]) < number(ranges[name])] == []
    rest = requirements(line for line in lines[end + 1 :] if line)
    assert not set(rest) & set(direct)
    assert all(rule.startswith("==") for rule in (direct | rest).values())


def test_notebooks_carry_no_outputs():
    notebooks = [path for path in TRACKED if path.suffix == ".ipynb"]
    assert notebooks
    for path in notebooks:
        notebook = json.loads(path.read_text())
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        assert not any(cell["outputs"] or cell["execution_count"] for cell in cells), path.name
        assert "widgets" not in notebook["metadata"], path.name


def test_no_path_of_one_machine_is_committed():
    pattern = re.compile(rb"(/(home|root|Users|work|tmp)/[a-z])|(127\.0\.0\.1:\d)")
    texts = [path for path in TRACKED if path.suffix in (".py", ".md", ".toml", ".txt", ".yml", ".ipynb", ".json", "")]
    assert [path.name for path in texts if pattern.search(path.read_bytes())] == []
