import shutil

import pytest

from tests.helpers import ROOT
from vae_lab.ablation import fingerprints
from vae_lab.ablation.fingerprints import code_version, content_hash, key_of


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package whose code is hashed instead."""
    folder = shutil.copytree(ROOT / "vae_lab", tmp_path / "vae_lab", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprints, "FOLDER", folder)
    return folder


def version() -> str:
    code_version.cache_clear()
    return code_version("ablation.trial", ("torch", "numpy"))


@pytest.fixture(autouse=True)
def fresh():
    yield
    code_version.cache_clear()


def edit(path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_comments_docstrings_and_layout_do_not_count(package):
    before = version()
    edit(package / "causal_conv.py", "import torch\n", "import torch\n\n\n# a comment\n")
    edit(package / "causal_conv.py", "The causal 3D convolution.", "Another docstring.")
    edit(
        package / "training" / "loop.py",
        "        config, accelerator = ",
        '        "a text that stands alone"\n        config, accelerator = ',
    )
    assert version() == before


@pytest.mark.parametrize(
    "module", ["ablation/trial", "temporal_vae", "causal_conv", "shapes", "video/clips", "training/loop"]
)
def test_code_counts_wherever_a_trial_needs_it(package, module):
    before = version()
    (package / f"{module}.py").write_text((package / f"{module}.py").read_text() + "\nMORE = 1\n")
    assert version() != before


def test_what_a_trial_does_not_need_does_not_count(package):
    before = version()
    for module in (
        "viewers/widgets",
        "ablation/results",
        "ablation/runner",
        "lessons/quiz",
        "cli",
        "figures/frames",
        "figures/probes",
    ):
        (package / f"{module}.py").write_text("MORE = 1\n")
    assert version() == before


def test_imports_are_followed_into_packages(tmp_path, monkeypatch):
    """Up (`..`), down, through a package's `__init__`, and from inside a function; `figures` and functions are not."""
    sources = {
        "wing/start": "from ..core import f\nfrom .near import g\nfrom .. import alone, figures\n",
        "wing/near": "def g():\n    from ..other.deep import far\n    from ..figures import draw\n",
        "wing/__init__": "from ..front import x\n",
        "other/__init__": "",
        "other/deep/__init__": "from . import inner\n",
        "other/deep/inner": "",
        **dict.fromkeys(["core", "alone", "front", "figures/__init__", "unrelated"], ""),
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(fingerprints, "FOLDER", tmp_path)
    found = set(fingerprints._with_imports("wing.start"))
    wanted = "wing.start wing.near wing core alone front other other.deep other.deep.inner"
    assert found == set(wanted.split())
    for name in found:
        before = code_version("wing.start")
        path = fingerprints._path_of(name)
        path.write_text(path.read_text() + "MORE = 1\n")
        code_version.cache_clear()
        assert code_version("wing.start") != before


def test_names_of_interfaces_are_followed_to_their_homes(tmp_path, monkeypatch):
    """A package interface loads its names lazily, so its code does not show where they are; its stub does."""
    sources = {
        "wing/start.py": "from ..front import f\nfrom .. import top\n",
        "wing/uses_a_front.py": "from .. import front\nfront.g()\n",
        "wing/absolute.py": "import numpy\nfrom vae_lab.front import f\n",
        "wing/__init__.py": "",
        "front/__init__.py": "lazy = 1\n",
        "front/__init__.pyi": "from .home import inner as f\nfrom .other import g as g\n",
        "front/home.py": "from . import deep\n",
        **dict.fromkeys(["front/deep.py", "front/other.py", "front/unused.py", "far/place.py", "__init__.py"], ""),
        "__init__.pyi": "from . import front as front\nfrom .far import up as top\nfrom .far import down as down\n",
        "far/__init__.py": "",
        "far/__init__.pyi": "from .place import up as up\nfrom .figures import down as down\n",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(fingerprints, "FOLDER", tmp_path)
    wanted = "wing wing.start front front.home front.deep far far.place"
    assert set(fingerprints._with_imports("wing.start")) == set(wanted.split())
    wanted = "wing wing.uses_a_front front front.home front.deep front.other"
    assert set(fingerprints._with_imports("wing.uses_a_front")) == set(wanted.split())
    message = "code that counts must import vae_lab by relative names, got 'from vae_lab.front import f'"
    with pytest.raises(ValueError, match=message):
        fingerprints._with_imports("wing.absolute")


def test_a_trial_needs_no_front():
    """Each module of a trial imports from the module that defines a name: interfaces count for their own code alone."""
    modules = fingerprints._with_imports("ablation.trial")
    assert {"ablation.trial", "ablation.metrics", "families", "training.loop", "training.synthetic"} <= set(modules)
    wings = {name.partition(".")[0] for name in modules}
    assert wings.isdisjoint({"viewers", "lessons", "cli", "reconstruct", "figures"})
    assert {"ablation.results", "ablation.plan", "ablation.runner", "ablation.store"}.isdisjoint(modules)


def test_a_module_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="module must be one of vae_lab, by its dotted name in it, got 'trials'"):
        code_version("trials")


def test_libraries_count(monkeypatch):
    before = version()
    monkeypatch.setattr(fingerprints, "version", lambda library: "0.0")
    assert version() != before


def test_content(tmp_path):
    folder = tmp_path / "a"
    (folder / "in").mkdir(parents=True)
    (folder / "one").write_bytes(b"1")
    (folder / "in" / "two").write_bytes(b"2")
    before = content_hash(folder)
    assert content_hash(shutil.copytree(folder, tmp_path / "b")) == before  # where it lies is no matter
    (folder / "in" / "two").rename(folder / "two")
    assert content_hash(folder) != before
    assert content_hash(tmp_path / "b" / "one") != content_hash(tmp_path / "b" / "in" / "two")


def test_keys():
    assert key_of({"a": 1, "b": [1, 2]}) == key_of({"b": [1, 2], "a": 1})
    assert key_of(1, [2]) != key_of([1, 2]) != key_of(1, 2)
    assert len(key_of(None)) == 16
