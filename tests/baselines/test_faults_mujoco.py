"""Dropped contact in a real simulator: MuJoCo with its contacts disabled, under the measures that should notice."""

import mujoco
import pytest

import wmbench
from wmbench.recording.constraints import record_constraints
from wmbench.recording.contact import record_contacts
from wmbench.recording.one_step import record_one_step
from wmbench_baselines.oracle import Oracle, OracleConfig


class Contactless(Oracle):
    """The true simulator, but whatever touches falls through."""

    def _idle(self):
        slot = super()._idle()
        self._pool[slot].env._backend._env.model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
        return slot


@pytest.fixture(scope="module")
def hopper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hopper") / "data"
    return wmbench.collect("Gym-Hopper", folder, policy=["random"], episodes=[20], seed=0)


def test_a_hopper_without_contact_is_noticed_where_it_lands(hopper):
    models = {cls.__name__: cls(OracleConfig(live=4), hopper.task) for cls in (Oracle, Contactless)}
    options = {"split": "test", "with_baselines": False}
    contact = record_contacts(models, hopper, windows=8, horizon=15, **options).results()
    found = {(r.subject, r.name): r.value for r in contact}
    assert found["Contactless", "one-step:free"] < 1e-3  # in the air nothing is wrong
    assert found["Contactless", "one-step:making"] > 0.1
    assert found["Oracle", "one-step:making"] < 1e-3
    laws = record_constraints(models, hopper, windows=8, horizon=15, **options).results()
    found = {(r.subject, r.name): r.value for r in laws}
    assert found["Contactless", "violation:penetration"] > 0.05 > found["Oracle", "violation:penetration"]
    steps = record_one_step(models, hopper, limit=60, **options).results()
    found = {(r.subject, r.name): r.value for r in steps}
    assert found["Contactless", "skill"] < 0.9 < found["Oracle", "skill"]
