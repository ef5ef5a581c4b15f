import pytest
import torch

from vae_lab.probes import peak_memory

MEGABYTE = 1_000_000


def bytes_at_once(*sizes: int) -> None:
    tensors = [torch.ones(size, dtype=torch.uint8) for size in sizes]
    del tensors


def test_what_lives_at_the_same_time_counts():
    kept = []
    assert peak_memory(lambda: bytes_at_once(MEGABYTE, 2 * MEGABYTE)) == 3 * MEGABYTE
    assert peak_memory(lambda: [bytes_at_once(MEGABYTE) for _ in range(5)]) == MEGABYTE
    assert peak_memory(lambda: kept.append(torch.ones(MEGABYTE, dtype=torch.uint8))) == MEGABYTE
    assert peak_memory(lambda: bytes_at_once(MEGABYTE)) == MEGABYTE  # what an earlier call kept is no part of this one
    assert peak_memory(lambda: kept.clear()) == 0
    assert peak_memory(lambda: None) == 0


def test_what_is_refused():
    with pytest.raises(ValueError, match="call must be a function without arguments, got Tensor"):
        peak_memory(torch.zeros(1))
