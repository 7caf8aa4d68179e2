"""Training inside a learned simulator: what the learner is given, and that training resumes and tells both truths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wmbench.collecting import collect
from wmbench.errors import DatasetError
from wmbench.registration import task_card
from wmbench_baselines.inside import PENALTIES, InsideConfig, InsideRows, train_inside
from wmbench_baselines.inside.train import actor_of, read_curve

CARD = task_card("DMC-PendulumSwingup")
SMALL: dict[str, Any] = {"task": CARD.name, "num_envs": 3, "steps": 60, "evaluate_every": 30, "episodes": 1}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "pendulum"
    collect(CARD, folder, episodes=3, seed=5)
    return folder


def play(rows: InsideRows, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[list[dict[str, Any]]]]:
    """Observations, rewards, dones and infos of random actions from seeded starts."""
    rows.seed(11)
    seen, rewards, dones, infos = [rows.reset()], [], [], []
    rng = np.random.default_rng(0)
    for _ in range(steps):
        o, r, d, i = rows.step(rng.uniform(-1, 1, (rows.num_envs, 1)).astype(np.float32))
        seen.append(o.copy())
        rewards.append(r)
        dones.append(d)
        infos.append(i)
    rows.close()
    return np.array(seen), np.array(rewards), np.array(dones), infos


@pytest.mark.parametrize("penalty", [name for name in PENALTIES if name != "none"])
def test_the_learner_pays_for_the_models_doubt(penalty: str) -> None:
    plain = play(InsideRows(InsideConfig(**SMALL), CARD), 20)
    paid = play(InsideRows(InsideConfig(**SMALL, penalty=penalty, penalty_weight=3.0), CARD), 20)
    np.testing.assert_array_equal(plain[0], paid[0])
    doubt = np.array([[info["uncertainty"][PENALTIES[penalty]] for info in step] for step in paid[3]])
    assert doubt.min() > 0
    weight = 3.0 * (CARD.dt if penalty == "rwm-u" else 1.0)
    np.testing.assert_allclose(plain[1] - paid[1], weight * doubt, rtol=1e-4, atol=1e-6)


def test_noise_on_rewards_has_no_direction() -> None:
    plain = play(InsideRows(InsideConfig(**SMALL, where="true"), CARD), 300)
    noisy = play(InsideRows(InsideConfig(**SMALL, where="true", reward_noise=0.5), CARD), 300)
    np.testing.assert_array_equal(plain[0], noisy[0])
    drawn = noisy[1] - plain[1]
    assert abs(drawn.mean()) < 4 * 0.5 / np.sqrt(drawn.size)
    assert drawn.std() == pytest.approx(0.5, rel=0.1)
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.25


def test_branches_begin_in_recorded_states_and_end_as_time_limits(dataset: Path) -> None:
    from wmbench.episodes import Dataset

    config = InsideConfig(**SMALL, branch=4, dataset=str(dataset))
    seen, _, done, infos = play(InsideRows(config, CARD), 12)
    data = Dataset(dataset)
    recorded = {row.tobytes() for i in data.episodes("train") for row in data.episode(int(i)).observation}
    np.testing.assert_array_equal(done.any(1), [False, False, False, True] * 3)
    for t in (0, 4, 8, 12):
        assert all(row.tobytes() in recorded for row in seen[t])
    assert any(row.tobytes() not in recorded for row in seen[3])
    for info in infos[3]:
        assert info["TimeLimit.truncated"] and info["episode"]["l"] == 4
        assert info["terminal_observation"].shape == (3,) and info["terminal_observation"].tobytes() not in recorded


@pytest.mark.parametrize("algorithm", ["SAC", "PPO"])
def test_training_goes_on_where_it_was_killed(algorithm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wmbench_baselines.inside.train as train

    save, calls = train._save, []

    def killed(model: Any, spent: list[float], folder: Path) -> None:
        save(model, spent, folder)
        calls.append(model)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(train, "_save", killed)
    options = SMALL | {"steps": 90 if algorithm == "SAC" else 2400}
    options["evaluate_every"] = options["steps"] // 3
    config = InsideConfig(**options, algorithm=algorithm, hidden=(8, 8))
    with pytest.raises(KeyboardInterrupt):
        train_inside(config, tmp_path)
    assert len(read_curve(tmp_path)) == 1
    curve = train_inside(config, tmp_path)
    whole = 30 if algorithm == "SAC" else 1536  # two rollouts of 256 steps in three rows
    assert [point["step"] for point in curve] == [whole * k for k in range(1, len(curve) + 1)]
    assert curve[-1]["step"] >= config.steps
    assert all(len(point[where]) == 1 for point in curve for where in ("true", "learned"))
    assert 0 < curve[-1]["simulator_seconds"] < curve[-1]["seconds"]
    assert train_inside(config, tmp_path) == curve
    with pytest.raises(DatasetError, match=r"gamma 0\.99 there, 0\.9 asked for"):
        train_inside(InsideConfig(**options, algorithm=algorithm, hidden=(8, 8), gamma=0.9), tmp_path)
    model, observation = calls[-1], np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    chosen = model.predict(observation, deterministic=True)[0]
    expected = chosen if algorithm == "SAC" else np.tanh(chosen)
    actor = actor_of(model, config, CARD)
    np.testing.assert_allclose(actor.act(observation, None, keys=np.zeros(5, np.int64))[0], expected, atol=1e-5)


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown penalty"):
        InsideConfig(CARD.name, penalty="mopo")
    with pytest.raises(ValueError, match="learned simulator"):
        InsideConfig(CARD.name, where="true", penalty="rwm-u")
    with pytest.raises(ValueError, match="dataset"):
        InsideConfig(CARD.name, branch=5)
    with pytest.raises(ValueError, match="init must be"):
        InsideRows(InsideConfig(CARD.name, branch=5, dataset=str(tmp_path)), CARD)
