"""Torch is on one thread inside the block only, and not where the user has chosen a number."""

import pytest
import torch

import wmbench
from wmbench.threads import one_thread


@pytest.fixture
def three(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_one_thread_inside_and_the_old_number_after(three):
    with pytest.raises(RuntimeError), one_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError
    assert torch.get_num_threads() == 3


def test_the_users_choice_stands(three, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with one_thread():
        assert torch.get_num_threads() == 3


def test_evaluations_run_on_one_thread(three):
    seen = []

    class Watching:
        def initial(self, batch_size):
            return None

        def act(self, observation, state, *, keys):
            import numpy as np

            seen.append(torch.get_num_threads())
            return np.zeros((len(keys), 3), np.float32), None

    wmbench.evaluate("Gym-Hopper", Watching(), episodes=1)
    assert set(seen) == {1} and torch.get_num_threads() == 3
