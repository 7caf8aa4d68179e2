"""CONTRIBUTING's examples, run exactly as printed: a task, a world model, a policy, measures and a recorder."""

import importlib
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import wmbench
from wmbench import registration, registry

PAGE = Path(__file__).parent.parent / "CONTRIBUTING.md"
TASK = "wmbench/My-Cart-v0"


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The page's files on the path and its entry points registered, for the time of this module."""
    folder = tmp_path_factory.mktemp("plugins")
    page = PAGE.read_text()
    files = re.findall(r"```python\n# file: (\S+)\n(.*?)```", page, re.DOTALL)
    entries = re.findall(r'```toml\n\[project.entry-points."([\w.]+)"\]\n(\S+) = "(\w+):(\w+)"\n```', page)
    assert len(files) == 5 and len(entries) == 6
    for name, text in files:
        (folder / name).write_text(text)
    kinds = (registry.envs, registry.world_models, registry.policies, registry.measures, registry.recorders)
    groups = {r.group: r for r in kinds}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for group, name, module, attribute in entries:
            groups[group].add(name, getattr(importlib.import_module(module), attribute))
        registration.task_cards.cache_clear()
        registration.register_all()
        yield groups
        for group, name, _, _ in entries:
            groups[group].remove(name)
        registration.task_cards.cache_clear()
        gym.registry.pop(TASK)


@pytest.mark.filterwarnings("ignore:.*infinity.*")
def test_the_four_examples_work_together(plugins: Any, tmp_path: Path) -> None:
    check_env(gym.make(TASK).unwrapped, skip_render_check=True)
    data = wmbench.collect(TASK, tmp_path / "data", policy=["random", "pd"], episodes=[4, 4])
    wmbench.train("constant-velocity", TASK, data, tmp_path / "model", progress=False)
    env = gym.make(TASK, simulator=str(tmp_path / "model"))
    check_env(env.unwrapped, skip_render_check=True)
    before, _ = env.reset(seed=0)
    after, reward, terminated, truncated, info = env.step(np.zeros(1, dtype=np.float32))
    np.testing.assert_allclose(after, [before[0] + before[1] / 20, before[1]], rtol=1e-6)
    assert reward == pytest.approx(-float(after @ after), abs=1e-3)
    assert not terminated and not truncated and info["success"] in (True, False)


def test_the_example_measure_counts_what_is_not_finite(plugins: Any) -> None:
    measure = registry.measures.load("worst")
    truth = np.zeros((3, 2))
    prediction = np.array([truth + 1, truth + np.nan])
    good, bad = measure({"subject": np.array(["a", "b"]), "prediction": prediction, "next_observation": truth})
    assert good.value == 1.0 and good.n_invalid == 0
    assert bad.value is None and bad.n_invalid == 3


@pytest.mark.filterwarnings("ignore:.*infinity.*")
def test_the_example_recorder_and_measures_are_found_and_kept(plugins: Any, tmp_path: Path) -> None:
    from wmbench.measuring import gather_subjects, measure_all

    data = wmbench.collect(TASK, tmp_path / "data", policy=["random", "pd"], episodes=[8, 8])
    wmbench.train("constant-velocity", TASK, data, tmp_path / "model", progress=False)
    subjects = gather_subjects(data, {"mine": str(tmp_path / "model")})
    done = measure_all(subjects, tmp_path / "out", only=["stillness", "one-step"])
    moved, *_ = done["stillness"].results
    assert (moved.subject, moved.name, moved.n) == ("mine", "moved", 8) and moved.value > 0
    assert "worst" in {r.measure for r in done["one-step"].results}, "it reads the arrays of another recording"
    kept: list[str] = []
    measure_all(subjects, tmp_path / "out", only=["stillness"], event=lambda name, what, _: kept.append(what))
    assert kept == ["start", "kept"]
