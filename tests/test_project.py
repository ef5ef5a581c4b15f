"""What holds the project together: packages, layers, types, the wheel, notebooks without outputs."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers import ROOT
from vae_lab.checkpoints.bundled import LAB_WEIGHTS

TRACKED = [
    ROOT / name
    for name in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    if (ROOT / name).is_file()
]
MODULES = sorted((ROOT / "vae_lab").rglob("*.py"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, TOOLS = PYPROJECT["project"], PYPROJECT["tool"]
EXTRAS = PROJECT["optional-dependencies"]


def dotted(path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


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
        ("from vae_lab.cli import main; main(['sizes', '51x256x256'])", ["numpy", "torch", "diffusers"]),
        ("from vae_lab.cli import main; main(['sizes', '49x480x720', '--family', 'all'])", ["numpy", "torch"]),
        ("from vae_lab.cli import build_parser; build_parser().format_help()", ["numpy", "torch", "diffusers"]),
        ("from vae_lab import read_video, write_video, photo_clip", ["torch", "diffusers", "matplotlib", "skimage"]),
        ("from vae_lab import CausalConv3d, psnr", ["diffusers", "skimage"]),
    ],
)
def test_imports_stay_light(statement, absent):
    code = f"{statement}\nimport sys\nprint([name for name in {absent} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.splitlines()[-1:] == ["[]"], result.stderr


def test_public_names_are_there():
    import vae_lab

    assert all(getattr(vae_lab, name) is not None for name in vae_lab.__all__)
    assert set(vae_lab.__all__) <= set(dir(vae_lab))
    with pytest.raises(AttributeError, match="No vae_lab attribute nothing"):
        vae_lab.nothing  # noqa: B018


def requirements(lines) -> dict[str, str]:
    """name -> version rule; an extra of our own has none."""
    pairs = (re.fullmatch(r"([A-Za-z0-9_.-]+?)((?:==|>=).+)", line.strip()) for line in lines)
    return {pair[1].lower().replace("-", "_"): pair[2] for pair in pairs if pair}


def version(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", text)]


def test_pyproject_environment_and_constraints_agree():
    ranges = requirements(line for lines in (PROJECT["dependencies"], *EXTRAS.values()) for line in lines)
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert f"python{PROJECT['requires-python']}" in conda
    (pip,) = (entry["pip"] for entry in conda if isinstance(entry, dict))
    assert pip == ["--constraint constraints.txt", "--editable .[dev]"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    end = lines.index("# what those bring along")
    direct = requirements(line for line in lines[:end] if line and not line.startswith("#"))
    assert set(direct) == set(ranges)
    assert direct["torch"] == "==2.13.0"
    assert [name for name in ranges if version(direct[name]) < version(ranges[name])] == []
    rest = requirements(line for line in lines[end + 1 :] if line)
    assert not set(rest) & set(direct)
    assert all(rule.startswith("==") for rule in (direct | rest).values())


def test_dev_has_every_extra_and_make_installs_extras_that_exist():
    def within(name: str) -> set[str]:
        inner = re.findall(r"vae_lab\[(\w+)\]", " ".join(EXTRAS[name]))
        return {name}.union(*map(within, inner))

    assert within("dev") == set(EXTRAS)
    wanted = set(re.findall(r"^\w+:.*\.venv/installed-(\w+)", (ROOT / "Makefile").read_text(), re.M))
    assert wanted <= set(EXTRAS) and "test" in wanted
    named = {name for path in MODULES for name in re.findall(r'needs_extra\("(\w+)"\)', path.read_text())}
    assert named and named <= set(EXTRAS)


def test_constraints_pin_what_is_installed_with_dev():
    """Every distribution that the dev extra brings along in this environment is in constraints.txt."""
    pinned = requirements((ROOT / "constraints.txt").read_text().splitlines())
    missing = {name for name in closure("dev") if name.replace("-", "_").replace(".", "_") not in pinned}
    assert missing == {"vae-lab", "setuptools"}  # ours, and one that every environment has


# ---- the house -----------------------------------------------------------------------------------------------------


def test_tests_that_were_measured_as_slow_are_there():
    slow = json.loads((ROOT / "tests" / "durations.json").read_text("utf-8"))
    functions = {tuple(re.match(r"(tests/.+\.py)::(?:\w+::)*(\w+)", name).groups()) for name in slow if name[0] == "t"}
    assert len(functions) > 100
    gone = [(path, name) for path, name in functions if f"def {name}(" not in (ROOT / path).read_text("utf-8")]
    assert not gone, "run pytest --keep-durations"


def test_the_house_is_small_seen_from_above():
    inside = [path for path in (ROOT / "vae_lab").iterdir() if path.name != "__pycache__"]
    assert len([path for path in inside if path.is_dir()]) <= 13
    assert len([path for path in inside if path.suffix == ".py"]) <= 12


def test_every_module_is_in_a_layer():
    """A module that no layer names would be free to import anything. A contract of their own holds the probes."""
    (layers,) = (contract["layers"] for contract in TOOLS["importlinter"]["contracts"] if contract["type"] == "layers")
    named = {name for layer in layers for name in layer.split(" | ")}
    interfaces = {f"vae_lab.{path.parent.name}" for path in (ROOT / "vae_lab").glob("*/__init__.py")} | {"vae_lab"}
    modules = {dotted(path) for path in MODULES}
    inside = {name for name in modules if any(name == layer or name.startswith(f"{layer}.") for layer in named)}
    assert {name for name in modules - inside - interfaces if not name.startswith("vae_lab.probes.")} == set()
    assert named <= modules  # none that is gone


def test_tests_mirror_the_subpackages():
    subpackages = {path.parent.name for path in (ROOT / "vae_lab").glob("*/__init__.py")}
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert subpackages - {"utils"} <= folders
    assert folders <= subpackages | {"core", "browser", "notebooks"}


def public_functions(path):
    """(name, node) of each function that others can call, methods of public classes included."""
    nodes = [("", node) for node in ast.parse(path.read_text()).body]
    for prefix, node in nodes:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            nodes.extend((f"{node.name}.", inner) for inner in node.body)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield prefix + node.name, node


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_public_functions_say_what_they_return(path):
    assert [name for name, node in public_functions(path) if node.returns is None] == []


# ---- the wheel -----------------------------------------------------------------------------------------------------


def closure(extra: str | None = None) -> set[str]:
    """Names of the distributions that an installation with this extra consists of, as they are installed here."""
    found, queue = set(), [("vae-lab", extra)]
    for name, wanted in queue:
        found.add(name)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another system
            found.discard(name)
            continue
        if name == "vae-lab":  # as pyproject.toml says now, whatever it said when this environment was made
            lines = [*PROJECT["dependencies"]]
            lines += [f"{line}; extra == '{key}'" for key in EXTRAS for line in EXTRAS[key]]
        for requirement in map(Requirement, lines):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": key or ""}) for key in {wanted, None}):
                entry = canonicalize_name(requirement.name)
                for inner in requirement.extras or {None}:
                    if (entry, inner) not in queue:
                        queue.append((entry, inner))
    return found


WEIGHT_FILES = ("config.json", "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the built wheel and what it requires without any extra, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "packages")
    for name in closure() - {"vae-lab"}:
        for file in metadata.files(name) or ():
            top = file.parts[0]
            link = folder / "packages" / top
            if top not in ("..", "__pycache__") and not link.exists():
                link.symlink_to(file.locate().parents[len(file.parts) - 2] if len(file.parts) > 1 else file.locate())
    return folder


def outside(installed, *command: str) -> subprocess.CompletedProcess:
    """Python with the packages of `installed` alone, in another folder than the repository."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(installed), "PYTHONPATH": str(installed / "packages")}
    return subprocess.run(
        [sys.executable, "-S", *command], cwd=installed, env=environment, capture_output=True, text=True
    )


def test_the_wheel_carries_weights_scripts_and_types(installed):
    inside = {str(path.relative_to(installed / "packages")) for path in (installed / "packages/vae_lab").rglob("*")}
    tracked = {str(path.relative_to(ROOT)) for path in TRACKED if path.is_relative_to(ROOT / "vae_lab")}
    weights = {f"vae_lab/data/{lab}/{name}" for lab in LAB_WEIGHTS.values() for name in WEIGHT_FILES}
    assert tracked | weights | {"vae_lab/data/dandelion.jpg"} <= inside
    assert "vae_lab/py.typed" in inside


def test_the_wheel_works_without_extras_and_outside_the_repository(installed):
    names = tuple(LAB_WEIGHTS)
    code = f"from vae_lab import load\nprint(*(type(load(name)).__name__ for name in {names}))"
    result = outside(installed, "-W", "error", "-c", code)
    assert result.stdout == "VideoVAE VideoVAE VideoVAE MagvitV2 STDiT3 STDiT3\n", result.stderr
    result = outside(installed, "-m", "vae_lab", "inspect", "lab")
    assert result.returncode == 0 and "VideoVAE" in result.stdout, result.stderr
    result = outside(
        installed,
        "-m",
        "vae_lab",
        "reconstruct",
        str(ROOT / "data" / "cut.mp4"),
        "out",
        "--frames",
        "5",
        "--size",
        "32x32",
    )
    assert result.returncode == 0 and (installed / "out" / "index.html").exists(), result.stderr


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("from vae_lab import run_ablation", "train"),
        (f"import runpy\nrunpy.run_path('{ROOT / 'scripts' / 'make_pages.py'}')", "pages"),
    ],
    ids=["ablations", "pages"],
)
def test_what_is_missing_names_its_extra(installed, code, extra):
    result = outside(installed, "-c", code)
    assert re.search(rf"MissingExtraError: \w+ is not installed: run pip install 'vae_lab\[{extra}\]'", result.stderr)


def test_the_command_line_names_the_extra(installed):
    result = outside(installed, "-m", "vae_lab", "ablate", str(ROOT / "data" / "ablations" / "padding.toml"))
    assert result.returncode == 2
    assert result.stderr == "vae-lab ablate: joblib is not installed: run pip install 'vae_lab[train]'\n"


# ---- what is committed ---------------------------------------------------------------------------------------------


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
