"""What a world model predicts, from what, for whom, and where it may fail: its card."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from wmbench.errors import CardError


@dataclass(frozen=True)
class ModelCard:
    """What a world model predicts, from what, for whom, and where it may fail.

    Attributes:
        name: Registered name of the model class, for example ``"ensemble"``.
        task_ids: Tasks it was fitted to.
        predicts: Subset of ``{"observation", "observation_std", "reward", "terminated", "success",
            "uncertainty"}``. What is not listed is absent, never zero.
        inputs: What the model reads, in words.
        condition: How the action enters, in words.
        consumer: What the model is for, in words.
        risk: The failure to expect first, in words.
        sources: Where a head the model lacks comes from, for example
            ``{"terminated": "card"}`` (the task never terminates). Only what is listed is allowed.
        uncertainty: Names of the uncertainty signals, in the order of preference.
        termination: How a predicted probability becomes a boolean:
            ``"threshold"`` (at 0.5) or ``"sample"`` (drawn with the row's key).
        n_parameters: Trainable numbers.
        trained_on: Digest of the dataset, ``""`` if none was needed.
        revision: Version of this model's definition.
    """

    name: str
    task_ids: tuple[str, ...]
    predicts: frozenset[str]
    inputs: str
    condition: str
    consumer: str
    risk: str
    sources: Mapping[str, str] = field(default_factory=dict)
    uncertainty: tuple[str, ...] = ()
    termination: Literal["threshold", "sample"] = "threshold"
    n_parameters: int = 0
    trained_on: str = ""
    revision: str = "0"

    HEADS = frozenset({"observation", "observation_std", "reward", "terminated", "success", "uncertainty"})

    def __post_init__(self) -> None:
        """Refuse a card with an unknown head or a blank mandatory field."""
        if unknown := set(self.predicts) - self.HEADS:
            raise CardError(f"model {self.name!r}: unknown heads {sorted(unknown)}; known: {sorted(self.HEADS)}")
        for blank in ("inputs", "condition", "consumer", "risk"):
            if not getattr(self, blank):
                raise CardError(f"model {self.name!r}: the card's field {blank!r} must not be empty")

    def to_json(self) -> dict[str, Any]:
        """Plain data, readable again by :meth:`from_json`."""
        data = dataclasses.asdict(self)
        data["predicts"] = sorted(self.predicts)
        return json.loads(json.dumps(data))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelCard:
        """Read a card back from plain data.

        Raises:
            CardError: A field is missing, unknown or contradictory.
        """
        try:
            values = dict(data)
            values["task_ids"] = tuple(values["task_ids"])
            values["predicts"] = frozenset(values["predicts"])
            values["uncertainty"] = tuple(values.get("uncertainty", ()))
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise CardError(f"not a model card: {error}") from error
