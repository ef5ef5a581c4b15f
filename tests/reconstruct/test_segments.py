import pytest

from vae_lab.reconstruct.segments import WorkFolder, segment_plan, source_identity


def test_pieces_are_gathered_into_segments():
    assert segment_plan([13, 16, 8], 16, 16) == [[13, 16, 8]]
    assert segment_plan([17] * 3, 1080, 1920) == [[17]] * 3
    assert segment_plan([1] * 40, 1080, 1920) == [[1] * 16, [1] * 16, [1] * 8]
    assert segment_plan([5000], 64, 64) == [[5000]]


def test_a_work_folder_resumes_its_run_and_clears_another(tmp_path):
    work = WorkFolder(tmp_path / "out")
    with work.locked():
        assert work.begin({"gain": 4}, [3, 2]) == 0 and work.kept() == "nothing was written"
        with work.new_segment(lambda: {"at": 3}) as folder:
            (folder / "file").touch()
            assert work.done() == 0  # it counts only when it is whole
        with pytest.raises(KeyboardInterrupt), work.new_segment(dict):
            raise KeyboardInterrupt
        assert [path.name for path in work.segments] == ["segment-000000"] and work.state("cpu") == {"at": 3}
    with work.locked():
        assert work.begin({"gain": 4}, [3, 2]) == 3
        assert work.kept().startswith(f"3 of 5 frames are done and kept in {work.path}")
        with pytest.warns(UserWarning, match="held 3 frames of a run with a different gain: starting over"):
            assert work.begin({"gain": 5}, [3, 2]) == 0
    assert not any((tmp_path / "out").iterdir())  # nothing was worth keeping


def test_outputs_appear_together(tmp_path):
    work = WorkFolder(tmp_path / "out")
    with work.locked():
        work.begin({}, [1])
        with pytest.raises(ValueError), work.outputs() as folder:
            (folder / "a").touch()
            raise ValueError
        assert not (work.out / "a").exists()
        with work.outputs() as folder:
            (folder / "a").touch()
    assert [path.name for path in work.out.iterdir()] == ["a"]


def test_a_source_has_another_identity_when_it_is_written_to(tmp_path):
    (tmp_path / "file").write_text("a")
    before = source_identity(tmp_path / "file"), source_identity(tmp_path)
    assert before == (source_identity(tmp_path / "file"), source_identity(tmp_path)) and before[0] != before[1]
    (tmp_path / "file").write_text("ab")
    after = source_identity(tmp_path / "file"), source_identity(tmp_path)
    assert after[0] != before[0] and after[1] != before[1]
