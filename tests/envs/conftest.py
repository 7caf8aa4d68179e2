"""Small fitted checkpoints for tests of the learned twin."""

import functools

import pytest

from wmbench import checkpoints, registry
from wmbench.banks import make_bank

TINY = {
    "tdmpc2": {
        **{"enc_dim": 32, "mlp_dim": 32, "latent_dim": 16, "num_q": 2, "batch_size": 8, "updates": 20},
        **{"head_updates": 20, "samples": 16, "elites": 8, "prior_samples": 8, "iterations": 2},
    }
}
"""Settings of what would take long to train."""


@pytest.fixture(scope="session")
def fitted(random_data, tmp_path_factory):
    """Function from a task id and a world model's name to a checkpoint folder with a bank, made once."""

    @functools.cache
    def make(task, name):
        cls, data = registry.world_models.load(name), random_data(task)
        model = cls.fit(cls.Config(**TINY.get(name, {})), data, folder=tmp_path_factory.mktemp("fit"))
        folder = tmp_path_factory.mktemp(name) / "checkpoint"
        return str(checkpoints.save(model, folder, kind="world_model", name=name, bank=make_bank(data)))

    return make
