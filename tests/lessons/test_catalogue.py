"""All questions at once: right answers, strange ones, known mistakes; each lesson belongs to a notebook."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vae_lab.lessons
from tests.helpers import ROOT
from tests.helpers.lessons import RIGHT, check_of
from vae_lab.lessons import Question, catalogue, question, questions


def test_every_question_accepts_the_right_answer():
    assert set(RIGHT) == set(questions())
    for name, answer in RIGHT.items():
        verdict = check_of(name)(answer)
        assert verdict.right is True, (name, verdict)
        assert repr(verdict).startswith("✓ ") and len(verdict.message) > 20


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_open_and_strange_answers(name):
    assert repr(check_of(name)(...)).startswith("… Your turn: put your answer in place of the three dots")
    for strange in (None, "seven", object(), [], {1: 2}, float("nan"), True):
        verdict = check_of(name)(strange)
        assert verdict.right is False and verdict.message


def test_every_known_mistake_is_rejected_with_its_own_hint():
    seen = 0
    for name in questions():
        asked = check_of(name).__self__ if isinstance(getattr(check_of(name), "__self__", None), Question) else None
        for mistake, hint in asked.mistakes if asked else ():
            verdict = asked.check(mistake)
            assert verdict.right is False and hint in verdict.message, name
            seen += 1
    assert seen >= 25


class Nasty:
    def __eq__(self, other):
        raise RuntimeError("no")

    def __repr__(self):
        raise RuntimeError("no")


def test_no_answer_breaks_a_check():
    meta = torch.zeros((), device="meta")
    for answer in (Nasty(), {1, "a"}, range(10**12), 10**5000, meta, [[1], [2, [3]]], np.zeros((2, 2))):
        for name in questions():
            assert check_of(name)(answer).right is False


def test_no_result_of_a_function_breaks_a_check():
    results = (None, "seven", Nasty(), (1, 2), torch.zeros(1, device="meta"), np.zeros(3), torch.zeros(0), [[1], 2])
    for name, answer in RIGHT.items():
        for result in results if callable(answer) else ():
            assert check_of(name)(lambda *arguments, result=result: result).right is False, (name, type(result))


def test_unknown_question():
    with pytest.raises(ValueError, match="there is no question 'nothing'; there are: latent frames of an image, "):
        question("nothing")


# ---- lessons and notebooks -----------------------------------------------------------------------------------------


def asked_by(notebook: Path) -> set[str]:
    """The names of the questions that a notebook asks."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return set(re.findall(r'\bquestion\(\s*"([^"]+)"', code))


def test_each_lesson_has_its_notebook_and_asks_what_that_asks():
    folder = Path(vae_lab.lessons.__file__).parent
    lessons = {path.stem.removeprefix("lesson_"): path for path in folder.glob("lesson_*.py")}
    asked = {path.stem: asked_by(path) for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {name for name, questions in asked.items() if questions} == set(lessons)
    for name in lessons:
        module = __import__(f"vae_lab.lessons.lesson_{name}", fromlist=["QUESTIONS"])
        assert asked[name] == set(module.QUESTIONS), name


MADE_UP = '''"""The questions of notebook 99."""

from .quiz import Question, Questions

QUESTIONS: Questions = {NAME: Question(2, "Two: one and one.", "Count them.", [(3, "That is one too many.")])}
'''


@pytest.fixture
def write_lesson(tmp_path, monkeypatch):
    """A function that puts lesson_99_made_up.py where lessons are looked for, asking one question."""

    def write(name: str) -> None:
        (tmp_path / "lesson_99_made_up.py").write_text(MADE_UP.replace("NAME", repr(name)))
        monkeypatch.setattr(vae_lab.lessons, "__path__", [*vae_lab.lessons.__path__, str(tmp_path)])
        catalogue._questions.cache_clear()

    yield write
    catalogue._questions.cache_clear()
    sys.modules.pop("vae_lab.lessons.lesson_99_made_up", None)


def test_a_new_lesson_is_one_module(write_lesson):
    before = questions()
    write_lesson("one and one")
    assert questions() == [*before, "one and one"]
    assert repr(question("one and one")(2)) == "✓ Two: one and one."
    assert repr(question("one and one")(3)) == "✗ Not 3. That is one too many."


def test_two_lessons_must_not_ask_the_same_question(write_lesson):
    write_lesson("false alarms")
    with pytest.raises(ValueError, match="lesson_99_made_up asks 'false alarms', but an earlier lesson does too"):
        questions()
