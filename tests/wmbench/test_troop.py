"""A troop of policies acts in one batch as each of them does alone."""

from typing import Any

import numpy as np
import pytest

from wmbench.checkpoints import resolve
from wmbench.errors import WmbenchError
from wmbench.registration import task_card
from wmbench.rollout import rollout
from wmbench.seeding import episode_seeds
from wmbench.troop import Troop

CARD = task_card("Gym-InvertedPendulum")
SEEDS = episode_seeds(3, CARD.id, "eval", 5)


class Counter:
    """Pushes as hard as the steps it has seen, so that a mixed-up state would show."""

    def initial(self, batch_size: int) -> Any:
        return {"steps": np.zeros(batch_size, dtype=np.int64)}

    def act(self, observation: np.ndarray, state: Any, *, keys: np.ndarray) -> tuple[np.ndarray, Any]:
        steps = state["steps"] + 1
        force = (0.3 * np.sin(steps) - observation[:, 1]).astype(np.float32)
        return force[:, None].clip(-3, 3), {"steps": steps}


class Breaks(Counter):
    """Fails in every episode."""

    def act(self, observation: np.ndarray, state: Any, *, keys: np.ndarray) -> tuple[np.ndarray, Any]:
        raise WmbenchError("this one breaks")


def same(a: Any, b: Any) -> None:
    assert a.invalid == b.invalid and a.seed == b.seed
    for name in ("observation", "action", "reward", "terminated", "truncated", "success"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.mark.parametrize("num_envs", [1, 4, 15])
@pytest.mark.parametrize("simulator", [None, "oracle"])
def test_each_acts_as_it_does_alone(num_envs: int, simulator: str | None) -> None:
    policies = [resolve("random", CARD, kind="policy"), Counter(), resolve("zero", CARD, kind="policy")]
    options: dict[str, Any] = {"simulator": simulator, "init": "true"} if simulator else {}
    together = rollout(CARD, Troop(policies, len(SEEDS)), SEEDS * 3, num_envs=num_envs, **options)
    for k, policy in enumerate(policies):
        alone = rollout(CARD, policy, SEEDS, num_envs=2, **options)
        for a, b in zip(together[k * len(SEEDS) : (k + 1) * len(SEEDS)], alone, strict=True):
            same(a, b)


def test_a_policy_that_breaks_spoils_its_own_episodes_alone() -> None:
    found = rollout(CARD, Troop([Counter(), Breaks(), Counter()], 2), SEEDS[:2] * 3, num_envs=6, on_error="record")
    assert [episode.invalid is not None for episode in found] == [False, False, True, True, False, False]
    assert "this one breaks" in str(found[2].invalid)
    same(found[0], found[4])


def test_a_troop_needs_somebody() -> None:
    with pytest.raises(ValueError, match="policies"):
        Troop([], 3)
    with pytest.raises(ValueError, match="no episode"):
        Troop([Counter()], 3).begin(np.array([3]))
