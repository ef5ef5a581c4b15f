import pytest

from vae_lab.training.run_folder import RunFolder, read_log


def test_a_file_is_replaced_in_one_step(tmp_path):
    """Whoever has the old file open goes on reading it: the new one is another file, moved into its place."""
    folder = RunFolder(tmp_path)
    folder.write_log([{"step": 1, "stage": "a", "loss": 0.5}])
    before = folder.log.read_text()
    with folder.log.open() as still_open:
        folder.write_log([{"step": step, "stage": "a", "loss": 0.25} for step in range(1, 200)])
        assert still_open.read() == before
    assert [row["step"] for row in read_log(folder.log)] == list(range(1, 200))
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]  # nothing left beside


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_log([{"step": 1, "stage": "a", "loss": 0.5}])
    with pytest.raises(ValueError, match="no such column"):
        folder.write_log([{"step": 2, "no such column": 1}])
    assert read_log(folder.log) == [{"step": 1, "stage": "a", "loss": 0.5}]
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]
