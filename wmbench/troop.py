"""Several policies as one, so that they act side by side in one batch of environments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wmbench.protocols import Policy, State
from wmbench.trees import gather, scatter


class Troop:
    """Policies that take turns over the episodes of a rollout: the first ``each`` are the first one's, and so on.

    A row's actions are those of its own policy alone, with the row's own keys: the bits are the same as when the
    policy acts by itself.
    """

    def __init__(self, policies: Sequence[Policy], each: int) -> None:
        """Line them up.

        Args:
            policies: K policies of one task.
            each: Episodes of each of them.

        Raises:
            ValueError: No policies, or no episodes.
        """
        if not policies or each < 1:
            raise ValueError("a troop needs policies, and at least one episode for each")
        self.policies = list(policies)
        self.each = each

    def begin(self, positions: np.ndarray) -> State:
        """State of fresh episodes.

        Args:
            positions: (B,) int, places of the episodes in the list of all: from 0 to K times ``each``.

        Raises:
            ValueError: A position that belongs to no policy.
        """
        who = np.asarray(positions, dtype=np.int64) // self.each  # (B,)
        if len(who) and (who.min() < 0 or who.max() >= len(self.policies)):
            raise ValueError(f"{len(self.policies)} policies of {self.each} episodes each have no episode {positions}")
        return {"who": who, "own": [policy.initial(len(who)) for policy in self.policies]}

    def initial(self, batch_size: int) -> State:
        """Room for so many episodes, all of them the first policy's until :meth:`begin` says whose they are."""
        return self.begin(np.zeros(batch_size, dtype=np.int64))

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """Each row's action by its own policy.

        Args:
            observation: (B, O) float32.
            state: As :meth:`begin` or this gave it.
            keys: (B,) int64.

        Returns:
            Actions (B, A) float32 and the next state.
        """
        who, own = state["who"], list(state["own"])
        action: np.ndarray | None = None
        for k in np.unique(who):
            rows = np.flatnonzero(who == k)
            chosen, after = self.policies[k].act(gather(observation, rows), gather(own[k], rows), keys=keys[rows])
            own[k] = scatter(own[k], rows, after)
            if action is None:
                action = np.empty((len(who), *chosen.shape[1:]), dtype=np.float32)
            action[rows] = chosen
        if action is None:
            raise ValueError("there are no rows to act in")
        return action, {"who": who, "own": own}
