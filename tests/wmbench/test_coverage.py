"""Coverage of a dataset: known answers of each number, and what the tables, figures and sentences of inspect say."""

import numpy as np
import pytest

import wmbench
from wmbench.commands.inspect_mixture import bars
from wmbench.episodes.coverage import coverage, effective_dimension, histogram, nearest, occupied
from wmbench.main import main


def test_occupied_bins_known_answers():
    low, high = np.zeros(3), np.array([1.0, 10.0, 0.0])
    values = np.array([[0.0, 0.0, 5.0], [0.49, 4.9, 5.0], [1.0, 10.0, 5.0]])
    shares = occupied(values, low, high, bins=2)
    np.testing.assert_array_equal(shares, [1.0, 1.0, np.nan])
    np.testing.assert_array_equal(occupied(values[:2], low, high, bins=2)[:2], [0.5, 0.5])
    np.testing.assert_array_equal(occupied(values + 100, low, high, bins=2)[:2], [0.5, 0.5])  # outside: the nearest bin
    grid = np.linspace(0, 0.999, 20)[:, None]
    assert occupied(grid, np.zeros(1), np.ones(1), bins=20)[0] == 1.0


def test_effective_dimension_known_answers():
    rng = np.random.default_rng(0)
    line = rng.normal(size=(500, 1)) * np.array([[1.0, 2.0, -3.0]])
    assert effective_dimension(line) == pytest.approx(1.0)
    assert effective_dimension(rng.normal(size=(100_000, 4))) == pytest.approx(4.0, abs=0.01)
    assert effective_dimension(np.ones((5, 3))) == 0.0
    square = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert effective_dimension(square) == pytest.approx(2.0)
    assert effective_dimension(square * [1, 0.5]) == pytest.approx(1.25**2 / (1 + 0.25**2))


def test_nearest_known_answers_and_against_brute_force():
    rows = np.array([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(nearest(rows, np.array([[0.0, 1.0]])), np.sqrt([1 / 2, 18 / 2]))
    np.testing.assert_allclose(nearest(rows, rows, np.array([0, 1])), np.sqrt(25 / 2))
    assert np.isinf(nearest(rows, rows, np.array([0, 0]))).all()
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(1203, 5)), rng.normal(size=(70, 5))
    brute = np.sqrt(((x[:, None] - y) ** 2).mean(-1)).min(1)
    np.testing.assert_allclose(nearest(x, y), brute, atol=1e-7)


def test_histogram_and_bars():
    assert histogram(np.array([0.0, 0.1, 1.0]), 0, 1, 4).tolist() == [2, 0, 0, 1]
    assert histogram(np.array([3.0, 3.0]), 3, 3, 4).tolist() == [2, 0, 0, 0]
    assert bars(np.array([0, 1, 8, 4])) == " ▁█▄"
    assert bars(np.array([1, 10_000])) == "▁█"  # one of many can still be seen
    assert bars(np.zeros(3, dtype=int)) == "   "


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("coverage") / "data"
    wmbench.collect("Gym-Reacher", path, recipe="failures", episodes=12, seed=2)
    return path


def test_sources_are_told_apart(folder, tmp_path):
    data = wmbench.collect("Gym-Reacher", tmp_path / "data", policy=["random", "zero"], episodes=[6, 3])
    random, zero, everything = coverage(data)
    assert [own.source for own in (random, zero, everything)] == ["random", "zero", "all"]
    assert zero.action_dimension == 0.0 and random.action_dimension == pytest.approx(2.0, abs=0.05)
    np.testing.assert_allclose(zero.actions, 1 / 20)
    np.testing.assert_allclose(random.actions, 1.0)
    assert np.nanmean(everything.states) >= np.nanmean(random.states) > np.nanmean(zero.states)
    assert zero.novelty > 0 and np.isnan(everything.novelty) and random.spread > 0
    again = coverage(data)
    assert all(np.array_equal(a.rows, b.rows) for a, b in zip(again, (random, zero, everything), strict=True))
    few = coverage(data, sample=40)
    assert [len(own.rows) for own in few] == [40, 40, 80]


def printed(capsys, monkeypatch, *words, columns=140):
    monkeypatch.setenv("COLUMNS", str(columns))
    status = main(["inspect", *map(str, words)])
    return status, capsys.readouterr().out


def test_inspect_describes_a_recipes_dataset(folder, tmp_path, capsys, monkeypatch):
    status, out = printed(capsys, monkeypatch, folder, "--plots", tmp_path / "plots")
    assert status == 0
    entry = wmbench.episodes.Dataset(folder).manifest["recipe"]["sources"]["early-stop"]
    row = next(line.split() for line in out.splitlines() if line.strip().startswith("early-stop"))
    assert row[:6] == ["early-stop", "failure", "6", "50.0%", "300", "0%"] and row[6] == str(entry["tried"])
    for word in ("recipe failures", "histogram", "coverage", "state bins", "novelty", "12 first observations"):
        assert word in out, word
    assert "none of the 1 test episodes begins where one of train or val does" in out
    for name in ("returns", "coverage", "states"):
        assert (tmp_path / "plots" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    _, out = printed(capsys, monkeypatch, folder, "--no-coverage", "--no-alignment", columns=80)
    assert "novelty" not in out and max(map(len, out.splitlines())) <= 80


def test_inspect_says_where_test_begins_with_what_was_trained_on(tmp_path, toy_card, toy_episode, capsys, monkeypatch):
    from wmbench.episodes import DatasetWriter

    with DatasetWriter(tmp_path / "toy", toy_card, split=(0.5, 0.0, 0.5)) as writer:
        for i in range(6):
            episode = toy_episode(i, steps=12)
            episode.observation[0] = i // 2  # each test episode begins like a train episode
            writer.add(episode)
    status, out = printed(capsys, monkeypatch, tmp_path / "toy", "--no-alignment")
    assert status == 0
    assert "6 episodes from 3 first observations and 6 states" in out
    assert "of 3 test episodes, 3 in train begin at the same place" in out
