"""Small fitted checkpoints for tests of the learned twin."""

import functools

import pytest

from wmbench import checkpoints, registry
from wmbench.banks import make_bank


@pytest.fixture(scope="session")
def fitted(random_data, tmp_path_factory):
    """Function from a task id and a reference model's name to a checkpoint folder with a bank, made once."""

    @functools.cache
    def make(task, name):
        cls, data = registry.world_models.load(name), random_data(task)
        model = cls.fit(cls.Config(), data, folder=tmp_path_factory.mktemp("fit"))
        folder = tmp_path_factory.mktemp(name) / "checkpoint"
        return str(checkpoints.save(model, folder, kind="world_model", name=name, bank=make_bank(data)))

    return make
