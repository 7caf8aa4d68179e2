"""Recipes: shares met exactly, episodes that are what they are called, the same bytes whatever happens on the way."""

import json
from fractions import Fraction

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wmbench
from wmbench import registry, task_card
from wmbench.collecting import collector
from wmbench.collecting.recipes import KINDS, largest_remainder, load_recipe, meets, parse_recipe
from wmbench.episodes import Dataset
from wmbench.episodes.starts import start_hashes
from wmbench.errors import DatasetError, NotRegisteredError, RecipeError
from wmbench.frozen_sets import FrozenStarts
from wmbench.main import main

TASK = "Gym-Reacher"  # 50 steps
CARD = task_card(TASK)
MIXED = json.loads(json.dumps(registry.recipes.load("mixed")))
MIXED["sources"][-1]["config"] = {"pushes": 2.0, "length": 12}  # long enough that some pushes are not made good


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return wmbench.collect(TASK, tmp_path_factory.mktemp("mixed") / "data", recipe=MIXED, episodes=20, seed=3)


def source_of(**changes):
    return {"share": 1, "kind": "any", "policy": "random"} | changes


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 300))
def test_largest_remainder_is_hamiltons(weights, total):
    shares = [w / sum(weights) for w in weights]
    counts = largest_remainder(shares, total)
    assert sum(counts) == total
    quotas = [Fraction(w, sum(weights)) * total for w in weights]
    assert all(abs(count - quota) < 1 for count, quota in zip(counts, quotas, strict=True))
    gains = [float(count - quota) for count, quota in zip(counts, quotas, strict=True)]
    assert max(gains) - min(gains) < 1 + 1e-3  # nobody was rounded up before somebody with a larger remainder


def test_largest_remainder_known_answers():
    assert largest_remainder([0.15, 0.1, 0.25, 0.15, 0.1, 0.25], 40) == [6, 4, 10, 6, 4, 10]
    assert largest_remainder([0.5, 0.3, 0.2], 9) == [4, 3, 2]  # quotas 4.5, 2.7, 1.8
    assert largest_remainder([1 / 3, 1 / 3, 1 / 3], 4) == [2, 1, 1]


def test_the_mixture_is_met_and_its_episodes_are_what_they_are_called(mixed):
    account = mixed.manifest["recipe"]
    names = ["random", "play", "expert", "early-stop", "wrong-target", "pushed"]
    assert [account["sources"][n]["episodes"] for n in names] == [3, 2, 5, 3, 2, 5] and account["complete"]
    assert {kind: entry["episodes"] for kind, entry in account["kinds"].items()} == {
        "random": 5,
        "success": 5,
        "failure": 5,
        "recovery": 5,
    }
    for name, entry in account["sources"].items():
        episodes = [mixed.episode(i) for i in mixed.episodes(source=name)]
        solved = [e.succeeded(CARD) for e in episodes]
        assert len(episodes) == entry["episodes"] == entry["asked"]
        assert sum(solved) == entry["successes"] and sum(map(len, episodes)) == entry["steps"]
        assert entry["tried"] == entry["episodes"] + sum(entry["discarded"].values())
        if entry["kind"] == "success":
            assert all(solved)
        if entry["kind"] == "failure":
            assert not any(solved)
        if entry["kind"] == "recovery":
            for episode in episodes:
                assert episode.succeeded(CARD) and episode.extra["intervention"].any()
                assert not episode.extra["intervention"][-1]
        else:
            assert not any(e.extra["intervention"].any() for e in episodes)
    assert account["sources"]["pushed"]["discarded"]["outcome"] > 0
    assert {name: c["episodes"] for name, c in mixed.manifest["counts"]["split"].items()} == {
        "train": 16,
        "val": 2,
        "test": 2,
    }


def test_a_recovery_wants_a_success_after_the_last_intervention(mixed):
    from dataclasses import replace

    episode = mixed.episode(int(mixed.episodes(source="pushed")[0]))
    assert meets("recovery", episode, CARD)
    flags = np.zeros(len(episode), dtype=bool)
    assert not meets("recovery", replace(episode, extra={"intervention": flags}), CARD)
    flags[-1] = True
    assert not meets("recovery", replace(episode, extra={"intervention": flags}), CARD)
    failed = replace(episode, success=np.zeros(len(episode), dtype=bool))
    assert not meets("recovery", failed, CARD)
    assert meets("failure", failed, CARD) and not meets("success", failed, CARD)
    assert all(meets(kind, failed, CARD) for kind in ("random", "any")) and set(KINDS) > {"random", "recovery"}


def test_interventions_are_where_the_pushed_policy_says(mixed):
    from wmbench_baselines.experts.worse import Pushed, PushedConfig

    assert Pushed(PushedConfig(pushes=2.0, seconds=0.3), CARD).length == 15  # 0.3 s at 50 Hz
    pushed = Pushed(PushedConfig(pushes=2.0, length=12), CARD)
    for i in mixed.episodes(source="pushed"):
        episode = mixed.episode(int(i))
        assert np.array_equal(episode.extra["intervention"], pushed.interventions([episode.seed], len(episode))[0])


def test_workers_and_interruptions_change_nothing(mixed, tmp_path, monkeypatch):
    options = {"recipe": MIXED, "episodes": 20, "seed": 3}
    two = wmbench.collect(TASK, tmp_path / "two", workers=2, **options)
    assert two.digest == mixed.digest and two.manifest == mixed.manifest

    class Enough(Exception):
        pass

    monkeypatch.setattr(collector, "COMMIT_SECONDS", 0.0)
    for stop in (2, 5, 6):  # inside a source, and across two
        done = 0
        real = collector._accept

        def accept(*arguments, stop=stop, real=real):
            nonlocal done
            done += 1
            if done > stop:
                raise Enough
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(collector, "_accept", accept)
            with pytest.raises(Enough):
                wmbench.collect(TASK, tmp_path / "again", **options)
        assert not Dataset(tmp_path / "again").manifest["recipe"]["complete"]
    again = wmbench.collect(TASK, tmp_path / "again", **options)
    assert again.digest == mixed.digest
    assert again.manifest["recipe"] == mixed.manifest["recipe"] and again.manifest["starts"] == mixed.manifest["starts"]
    other = wmbench.collect(TASK, tmp_path / "other", recipe="random", episodes=3, seed=4)
    assert other.digest != wmbench.collect(TASK, tmp_path / "another", recipe="random", episodes=3, seed=3).digest


def test_growing_keeps_what_is_there(tmp_path):
    options = {"recipe": "play", "seed": 1}
    small = wmbench.collect(TASK, tmp_path / "data", episodes=10, **options)
    seeds = small.index["seed"].tolist()
    grown = wmbench.collect(TASK, tmp_path / "data", episodes=20, **options)
    assert grown.index["seed"].tolist()[:10] == seeds
    assert {n: e["episodes"] for n, e in grown.manifest["recipe"]["sources"].items()} == {
        "play": 10,
        "random-smooth": 10,
    }
    with pytest.raises(DatasetError, match="already has"):
        wmbench.collect(TASK, tmp_path / "data", episodes=10, **options)
    with pytest.raises(DatasetError, match="plan"):
        wmbench.collect(TASK, tmp_path / "data", recipe="random", seed=1, episodes=20)


def test_play_and_random_need_no_expert_and_mixed_says_what_is_possible(tmp_path):
    with pytest.raises(RecipeError, match=r"'mixed' cannot be met on wmbench/Gym-Pusher-v0.*no expert.*play, random"):
        wmbench.collect("Gym-Pusher", tmp_path / "none", recipe="mixed")
    assert not (tmp_path / "none").exists()
    data = wmbench.collect("Gym-Pusher", tmp_path / "play", recipe="play", episodes=4)
    assert data.manifest["recipe"]["kinds"]["random"]["episodes"] == 4


def test_a_recipe_that_never_succeeds_says_so_after_its_tries(tmp_path):
    recipe = {"name": "hopeless", "tries": 7, "sources": [source_of(kind="success", noise=0.3)]}
    with pytest.raises(RecipeError, match=r"wmbench/Gym-Reacher-v0.*'random.noise0.3'.*'success' in 7 tries \(0 of 5"):
        wmbench.collect(TASK, tmp_path / "data", recipe=recipe, episodes=5)


def test_files_and_other_packages_add_recipes(tmp_path, capsys):
    mine = {
        "name": "mine",
        "sources": [
            source_of(share=0.75, policy="nobody-has-this", otherwise=[{"policy": "zero"}]),
            source_of(share=0.25, kind="failure", noise=0.5),
        ],
    }
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(mine))
    words = ["collect", TASK, "--recipe", str(path), "--episodes", "8", "--no-progress", "--out", str(tmp_path / "cli")]
    assert main(words) == 0 and "8 episodes" in capsys.readouterr().out
    counts = Dataset(tmp_path / "cli").manifest["recipe"]["sources"]
    assert {name: c["episodes"] for name, c in counts.items()} == {"zero": 6, "random+noise0.5": 2}
    registry.recipes.add("theirs", mine)
    try:
        theirs = wmbench.collect(TASK, tmp_path / "theirs", recipe="theirs", episodes=8)
        assert theirs.digest == Dataset(tmp_path / "cli").digest
    finally:
        registry.recipes.remove("theirs")


def test_every_registered_recipe_is_plain_data_with_a_description():
    for name in ("mixed", "random", "expert", "play", "failures", "recovery"):
        data = registry.recipes.load(name)
        assert json.loads(json.dumps(data)) == data
        recipe = load_recipe(name)
        assert recipe.name == name and recipe.description
        assert parse_recipe(data, name) == recipe


def test_recipes_are_listed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["list", "recipes"]) == 0
    out = capsys.readouterr().out
    for name in registry.recipes.names():
        assert f" {name} " in out
    assert "25% recovery" in out


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ([], "must be an object"),
        ({"name": "x"}, "lacks sources"),
        ({"name": "x", "sources": []}, "at least one"),
        ({"name": "x", "sources": [source_of(share=0.5)]}, "add up to 1"),
        ({"name": "x", "sources": [source_of(share=0)]}, "share"),
        ({"name": "x", "sources": [source_of(kind="good")]}, "kind must be one of random"),
        ({"name": "x", "sources": [source_of(sharre=1)]}, "unknown entries sharre"),
        ({"name": "x", "sources": [source_of(noise=-1)]}, "noise"),
        ({"name": "x", "sources": [source_of(config=3)]}, "config"),
        ({"name": "x", "sources": [source_of()], "tries": 0}, "tries"),
        ({"name": "x", "sources": [source_of(share=0.5), source_of(share=0.5)]}, "name each once"),
        ({"name": "x", "sources": [source_of(config={"smooth": 1})]}, "cannot be met.*smooth"),
    ],
)
def test_malformed_recipes(tmp_path, data, word):
    with pytest.raises(RecipeError, match=word):
        wmbench.collect(TASK, tmp_path / "data", recipe=data)


def test_requests_that_contradict_a_recipe(tmp_path):
    with pytest.raises(NotRegisteredError, match="did you mean 'mixed'"):
        wmbench.collect(TASK, tmp_path / "d", recipe="mixd")
    with pytest.raises(RecipeError, match="cannot be read"):
        wmbench.collect(TASK, tmp_path / "d", recipe=tmp_path / "nowhere.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(RecipeError, match="not JSON"):
        wmbench.collect(TASK, tmp_path / "d", recipe=tmp_path / "bad.json")
    with pytest.raises(RecipeError, match="who acts"):
        wmbench.collect(TASK, tmp_path / "d", recipe="random", policy="zero")
    with pytest.raises(RecipeError, match="one number"):
        wmbench.collect(TASK, tmp_path / "d", recipe="random", episodes=[3, 4])
    with pytest.raises(RecipeError, match="at least 6"):
        wmbench.collect(TASK, tmp_path / "d", recipe="mixed", episodes=3)


def first_starts(n):
    """Starts of the first episodes that a plan with seed 0 runs, whatever the recipe."""
    from wmbench.collecting.workers import Job, job_seed
    from wmbench.episodes.data import split_of

    env = gym.make(CARD.id)
    return [env.reset(seed=job_seed(0, CARD.id, Job(0, i, split_of(i, (0.8, 0.1, 0.1))), 0))[0] for i in range(n)]


def test_frozen_starts_are_drawn_again(tmp_path, monkeypatch):
    plain = wmbench.collect(TASK, tmp_path / "plain", recipe="random", episodes=8)
    taken = first_starts(8)[5]
    assert np.array_equal(plain.episode(5).observation[0], taken)
    monkeypatch.setattr(FrozenStarts, "holds", lambda self, observation, state: np.array_equal(observation[0], taken))
    data = wmbench.collect(TASK, tmp_path / "data", recipe="random", episodes=8)
    assert data.manifest["recipe"]["sources"]["random"]["discarded"] == {"outcome": 0, "start": 1}
    same = [data.index["seed"][i] == plain.index["seed"][i] for i in range(8)]
    assert same == [True] * 5 + [False] + [True] * 2
    two = wmbench.collect(TASK, tmp_path / "two", recipe="random", episodes=8)
    assert two.digest == data.digest


def test_test_starts_are_new_or_the_recipe_is_refused(tmp_path, monkeypatch):
    """A simulator with two starts, by seed modulo 2: whatever test begins with, training must not."""
    from wmbench.rollout import Rollout

    real = Rollout.run

    def run(self, seeds):
        for i, episode in real(self, seeds):
            episode.observation[0] = seeds[0] % 2
            episode.state[0] = seeds[0] % 2
            yield i, episode

    monkeypatch.setattr(Rollout, "run", run)
    with pytest.raises(
        RecipeError, match=r"no new start for the (test|val|train) split in 200 tries.*few starts, 2 so"
    ):
        wmbench.collect(TASK, tmp_path / "few", recipe="random", episodes=10)
    data = wmbench.collect(TASK, tmp_path / "all", recipe="random", episodes=10, split=(0.9, 0.1, 0))
    assert data.manifest["starts"]["distinct"] == {"observation": 2, "state": 2}
    assert data.manifest["starts"]["disjoint"] and data.manifest["starts"]["test"] == 0
    plain = wmbench.collect(
        TASK, tmp_path / "plain", episodes=20
    )  # without a recipe all is kept, and the check says it
    assert not plain.manifest["starts"]["disjoint"] and plain.manifest["starts"]["test_in"]["train"] == 2


def test_hashes_see_the_first_row_and_nothing_else():
    row = np.array([[0.0, 1.0], [2.0, 3.0]], dtype=np.float32)
    state = np.array([[5.0], [6.0]])
    changed = row.copy()
    changed[1] = 9
    assert start_hashes(row, state) == start_hashes(changed, state) == start_hashes(row[0], state[0])
    assert start_hashes(row) == start_hashes(row, state)[:1]
    assert start_hashes(-row * 0) == start_hashes(row * 0)
    changed[0, 0] = 1e-30
    assert start_hashes(changed)[0] != start_hashes(row)[0]
    assert len({*start_hashes(np.zeros(2)), *start_hashes(np.ones(2), np.zeros(2))}) == 3
