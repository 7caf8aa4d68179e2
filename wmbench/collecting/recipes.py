"""Recipes: mixtures of behaviour as plain data, read from this module, another package or a JSON file.

A recipe is an object with ``name``, ``description``, ``tries`` (see :class:`Recipe`) and ``sources``, each with::

    {"share": 0.25, "kind": "recovery", "policy": "pushed", "config": {"pushes": 2}, "noise": 0.0,
     "name": "pushed", "otherwise": [{"policy": "actor"}]}

Of these only ``share``, ``kind`` and ``policy`` are mandatory. ``otherwise`` lists what acts instead, in order of
preference, on tasks that have no such policy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from wmbench import registry
from wmbench.cards import TaskCard
from wmbench.episodes import EpisodeData
from wmbench.errors import CheckpointError, NotRegisteredError, RecipeError

KINDS = {
    "random": "undirected behaviour, whatever comes of it",
    "success": "episodes that the task's rule counts as solved",
    "failure": "episodes that it does not",
    "recovery": "episodes with an intervention, and a success after the last one",
    "any": "directed behaviour, whatever comes of it",
}
"""What a source can be asked for, in words."""

Plain = dict[str, Any]
SMOOTH: Plain = {"policy": "random", "config": {"smoothness": 0.9}, "name": "random-smooth"}
PLAY: Plain = {
    "policy": "play",
    "config": {"policies": ["expert"]},
    "otherwise": [{"policy": "play", "config": {"policies": ["actor-medium"]}}, {"policy": "play"}],
}
EARLY_STOP: Plain = {"policy": "early-stop", "config": {"random": True}}
PUSHED: Plain = {"policy": "pushed", "config": {"pushes": 2.0, "seconds": 0.15}}
PUSHED_OFF: Plain = {"policy": "pushed", "config": {"pushes": 6.0, "seconds": 0.5, "quiet": 0.0}, "name": "pushed-off"}
WRONG: Plain = {"policy": "wrong-target", "otherwise": [PUSHED_OFF]}

RANDOM: Plain = {
    "name": "random",
    "description": "independent, uniformly random actions",
    "sources": [{"share": 1, "kind": "random", "policy": "random"}],
}
EXPERT: Plain = {
    "name": "expert",
    "description": "successes of the task's expert",
    "sources": [{"share": 1, "kind": "success", "policy": "expert"}],
}
PLAY_RECIPE: Plain = {
    "name": "play",
    "description": "smooth random actions, and random switching among behaviours",
    "sources": [{"share": 0.5, "kind": "random", **PLAY}, {"share": 0.5, "kind": "random", **SMOOTH}],
}
FAILURES: Plain = {
    "name": "failures",
    "description": "failures with a cause: the expert stops early, mistakes its target, or is pushed off for good",
    "sources": [{"share": 0.5, "kind": "failure", **EARLY_STOP}, {"share": 0.5, "kind": "failure", **WRONG}],
}
RECOVERY: Plain = {
    "name": "recovery",
    "description": "the expert is pushed off course, takes over again and succeeds",
    "sources": [{"share": 1, "kind": "recovery", **PUSHED}],
}
MIXED: Plain = {
    "name": "mixed",
    "description": "a quarter each of random behaviour, successes, failures and recoveries",
    "sources": [
        {"share": 0.15, "kind": "random", "policy": "random"},
        {"share": 0.1, "kind": "random", **PLAY},
        {"share": 0.25, "kind": "success", "policy": "expert"},
        {"share": 0.15, "kind": "failure", **EARLY_STOP},
        {"share": 0.1, "kind": "failure", **WRONG},
        {"share": 0.25, "kind": "recovery", **PUSHED},
    ],
}


@dataclass(frozen=True)
class Behaviour:
    """Who acts: a registered policy with settings, and noise on its actions."""

    policy: str
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    noise: float = 0.0


@dataclass(frozen=True)
class Ingredient:
    """One source of a recipe: its share, what its episodes must be, and who acts in order of preference."""

    share: float
    kind: str
    behaviours: tuple[Behaviour, ...]


@dataclass(frozen=True)
class Recipe:
    """A mixture of behaviour.

    Attributes:
        name: What it is called.
        description: What it is for, in words.
        sources: What it consists of.
        tries: How many episodes are run at most for one that is wanted, before the recipe counts as not met.
    """

    name: str
    description: str
    sources: tuple[Ingredient, ...]
    tries: int = 200

    def to_json(self) -> dict[str, Any]:
        """Plain data in full, equal for equal recipes."""
        return json.loads(json.dumps(asdict(self)))

    def counts(self, episodes: int) -> list[int]:
        """Episodes of each source by largest remainder, earlier sources first where remainders are equal.

        Raises:
            RecipeError: So few that a source would have none.
        """
        counts = largest_remainder([source.share for source in self.sources], episodes)
        if min(counts) < 1:
            least = episodes
            while min(largest_remainder([source.share for source in self.sources], least)) < 1:
                least += 1
            raise RecipeError(
                f"the recipe {self.name!r} has {len(counts)} sources, and one of them would have none of {episodes} "
                f"episodes: ask for at least {least}"
            )
        return counts

    def chosen(self, card: TaskCard) -> list[Behaviour]:
        """Who acts on a task: of each source the first that the task has.

        Raises:
            RecipeError: A source has nobody; names the task, why, and the recipes that it has everybody for.
        """
        chosen, reasons = _choose(self, card)
        if reasons:
            raise RecipeError(
                f"the recipe {self.name!r} cannot be met on {card.id}: {'; '.join(reasons)}. {advice(card)}"
            )
        names = [behaviour.name for behaviour in chosen]
        if len(set(names)) < len(names):
            twice = max(names, key=names.count)
            raise RecipeError(
                f"the recipe {self.name!r}: two sources are called {twice!r} on {card.id}: name each once"
            )
        return chosen


def advice(card: TaskCard) -> str:
    """Which registered recipes this task has everybody for, as a sentence."""
    possible = [name for name in registry.recipes.names() if not _choose(load_recipe(name), card)[1]]
    return f"Recipes whose policies {card.name} has: {', '.join(possible) or 'none'}"


def _choose(recipe: Recipe, card: TaskCard) -> tuple[list[Behaviour], list[str]]:
    """The first possible behaviour of each source, and why a source has none."""
    from wmbench.evaluating import make_policy

    chosen, reasons = [], []
    for source in recipe.sources:
        why = ""
        for behaviour in source.behaviours:
            try:
                make_policy(behaviour.policy, card, config=behaviour.config)
            except (CheckpointError, NotRegisteredError) as error:
                why = why or str(error).split("; ")[0]  # what other tasks have is no help here
                continue
            chosen.append(behaviour)
            break
        else:
            reasons.append(why)
    return chosen, list(dict.fromkeys(reasons))


def load_recipe(reference: str | Path | Mapping[str, Any] | Recipe) -> Recipe:
    """A recipe by registered name, from a JSON file, or from plain data.

    Raises:
        RecipeError: The data or file is no recipe; says what is wrong.
        NotRegisteredError: No such name; close ones are suggested.
    """
    if not isinstance(reference, (str, Path)):
        return parse_recipe(reference, "the recipe")
    path = Path(reference)
    if path.suffix != ".json":
        return parse_recipe(registry.recipes.load(str(reference)), f"the recipe {str(reference)!r}")
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise RecipeError(f"{path} cannot be read ({error.strerror}): give a recipe's name or its JSON file") from error
    except ValueError as error:
        raise RecipeError(f"{path} is not JSON ({error})") from error
    return parse_recipe(data, str(path))


def parse_recipe(data: Any, where: str) -> Recipe:
    """Check plain data and make it a recipe; see the module's first lines for its form.

    Raises:
        RecipeError: Something is missing, unknown or impossible; ``where`` is named.
    """
    if isinstance(data, Recipe):
        return data
    _keys(data, {"name", "sources"}, {"description", "tries"}, where)
    tries = data.get("tries", 200)
    if not isinstance(tries, int) or not 1 <= tries <= 10_000:
        raise RecipeError(f"{where}: tries must be an integer from 1 to 10000, got {tries!r}")
    if not isinstance(data["sources"], Sequence) or not data["sources"]:
        raise RecipeError(f"{where}: sources must be a list of at least one")
    sources = tuple(_ingredient(entry, f"{where}, source {i}") for i, entry in enumerate(data["sources"]))
    if abs(sum(s.share for s in sources) - 1) > 1e-6:
        raise RecipeError(f"{where}: the shares must add up to 1, they give {sum(s.share for s in sources):g}")
    return Recipe(str(data["name"]), str(data.get("description", "")), sources, tries)


def _ingredient(data: Any, where: str) -> Ingredient:
    _keys(data, {"share", "kind", "policy"}, {"name", "config", "noise", "otherwise"}, where)
    share = data["share"]
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise RecipeError(f"{where}: share must be a number above 0 and at most 1, got {share!r}")
    if data["kind"] not in KINDS:
        raise RecipeError(f"{where}: kind must be one of {', '.join(KINDS)}, got {data['kind']!r}")
    first = {key: data[key] for key in ("policy", "name", "config", "noise") if key in data}
    others = [_behaviour(entry, f"{where}, otherwise") for entry in data.get("otherwise", ())]
    return Ingredient(float(share), data["kind"], (_behaviour(first, where), *others))


def _behaviour(data: Any, where: str) -> Behaviour:
    _keys(data, {"policy"}, {"name", "config", "noise"}, where)
    noise, config = data.get("noise", 0.0), data.get("config", {})
    if isinstance(noise, bool) or not isinstance(noise, (int, float)) or not 0 <= noise < float("inf"):
        raise RecipeError(f"{where}: noise must be a number that is not negative, got {noise!r}")
    if not isinstance(config, Mapping):
        raise RecipeError(f"{where}: config must be an object of the policy's settings, got {config!r}")
    name = data.get("name", data["policy"] + (f"+noise{noise:g}" if noise else ""))
    if not isinstance(name, str) or not 0 < len(name) <= 64:
        raise RecipeError(f"{where}: a source's name must have 1 to 64 characters, got {name!r}")
    return Behaviour(str(data["policy"]), name, dict(config), float(noise))


def _keys(data: Any, needed: set[str], more: set[str], where: str) -> None:
    if not isinstance(data, Mapping):
        raise RecipeError(f"{where} must be an object, got {type(data).__name__}")
    if missing := sorted(needed - set(data)):
        raise RecipeError(f"{where} lacks {', '.join(missing)}")
    if unknown := sorted(set(data) - needed - more):
        raise RecipeError(
            f"{where} has unknown entries {', '.join(unknown)}; known: {', '.join(sorted(needed | more))}"
        )


def largest_remainder(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers in these proportions that add up to ``total``, by Hamilton's method, exact in decimal shares."""
    exact = [Fraction(share).limit_denominator(10**6) for share in shares]
    quotas = [share / sum(exact) * total for share in exact]
    counts = [int(quota) for quota in quotas]
    order = sorted(range(len(quotas)), key=lambda i: (counts[i] - quotas[i], i))
    for i in order[: total - sum(counts)]:
        counts[i] += 1
    return counts


def meets(kind: str, episode: EpisodeData, card: TaskCard) -> bool:
    """Whether an episode is what a source is asked for, see :data:`KINDS`."""
    if kind in ("random", "any"):
        return True
    solved = episode.succeeded(card)
    if kind == "success":
        return solved
    if kind == "failure":
        return not solved
    pushed = np.flatnonzero(episode.extra["intervention"])
    return bool(solved and len(pushed) and episode.success[pushed[-1] + 1 :].any())
