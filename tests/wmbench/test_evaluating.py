"""Evaluation: a list of seeds in, one outcome per seed out, whatever the number of environments."""

import json

import numpy as np
import pytest

import wmbench
from wmbench.commands.evaluate import main
from wmbench.episodes import EpisodeData
from wmbench.errors import CheckpointError, DatasetError, NotRegisteredError, WmbenchError
from wmbench.evaluating import evaluate, make_policy, subject
from wmbench.measuring import measure_comparison, measure_success
from wmbench.provenance import provenance
from wmbench.recording.success import outcome, record_success
from wmbench.seeding import episode_seeds

TASK = "wmbench/Gym-Hopper-v0"  # episodes of random actions end within some twenty steps


def test_the_number_of_environments_does_not_matter():
    one = evaluate(TASK, "random", episodes=7, num_envs=1)
    for n in (3, 8):
        many = evaluate(TASK, "random", episodes=7, num_envs=n)
        assert many.episodes == one.episodes
        assert many.results == one.results
        assert many.seeds == one.seeds


def test_environments_in_processes_give_the_same_outcomes():
    asynchronous = evaluate(TASK, "random", episodes=3, num_envs=2, vectorization="async")
    assert asynchronous.episodes == evaluate(TASK, "random", episodes=3).episodes


def test_seeds_are_those_of_the_evaluation_split():
    found = evaluate(TASK, episodes=5, seed=3)
    assert found.seeds == episode_seeds(3, TASK, "eval", 5) == [e["seed"] for e in found.episodes]
    assert len({e["returns"] for e in found.episodes}) == 5
    # a longer list begins with the shorter one
    assert evaluate(TASK, episodes=7, seed=3).episodes[:5] == found.episodes
    assert evaluate(TASK, seeds=found.seeds[2:4]).episodes == found.episodes[2:4]


def test_the_twin_over_the_oracle_gives_the_same_outcomes():
    true = evaluate(TASK, "random", episodes=4, num_envs=2)
    twin = evaluate(TASK, "random", simulator="oracle", episodes=4, num_envs=2)
    assert twin.episodes == true.episodes
    assert (true.subject, twin.subject) == ("random in true", "random in oracle")
    assert subject("runs/x/bc", "/abs/models/ensemble") == "bc in ensemble"
    both = measure_success({e.subject: e for e in (true, twin)})
    assert both.find("return", "random in true").value == both.find("return", "random in oracle").value
    pair = measure_comparison({e.subject: e for e in (true, twin)})
    assert pair.find("return-difference", "random in true - random in oracle").value == 0.0
    assert both.results[: len(true.results)] == true.results


class Faulty:
    """Acts well until a row's clock says otherwise; state counts the row's steps."""

    def __init__(self, dies_at, poison):
        self.dies_at, self.poison = dies_at, poison

    def initial(self, batch_size):
        return np.zeros(batch_size, np.int64)

    def act(self, observation, state, *, keys):
        action = np.zeros((len(keys), 3), np.float32)
        # the first bits of a row's key decide whether it is one of the unlucky
        unlucky = (keys & 1).astype(bool) & (state == self.dies_at)
        if self.poison:
            action[unlucky] = np.nan
        elif unlucky.any():
            raise ZeroDivisionError("no such luck")
        return action, state + 1


@pytest.mark.parametrize("poison", [True, False])
def test_a_failing_policy_fails_its_own_episodes_only(poison):
    found = {n: evaluate(TASK, Faulty(5, poison), episodes=8, num_envs=n, name="faulty") for n in (1, 4)}
    assert found[1].episodes == found[4].episodes
    good = evaluate(TASK, Faulty(10**6, poison), episodes=8, num_envs=4)
    invalid = [e for e in found[4].episodes if not e["valid"]]
    assert 0 < len(invalid) < 8
    assert found[4].find("success").n_invalid == len(invalid)
    assert found[4].find("success").n == 8
    for broken, sound in zip(found[4].episodes, good.episodes, strict=True):
        if broken["valid"]:
            assert broken == sound
        else:
            assert broken["length"] == 5
            assert ("InvalidActionError" if poison else "ZeroDivisionError: no such luck") in broken["fault"]


def test_the_record_is_plain_json_and_enough(tmp_path):
    path = tmp_path / "deep" / "record.json"
    found = evaluate(TASK, "random", episodes=3, out=path, policy_config={"smoothness": 0.5})
    data = json.loads(path.read_text())
    assert data["episodes"] == found.episodes
    assert data["settings"]["policy_config"] == {"smoothness": 0.5}
    assert data["facts"]["provenance"]["versions"]["gymnasium"]
    again = measure_success({"random in true": data})
    assert again.results == found.results
    with pytest.raises(KeyError):
        found.find("nothing")


def test_settings_reach_the_policy():
    plain = evaluate(TASK, "random", episodes=2)
    smooth = evaluate(TASK, "random", episodes=2, policy_config={"smoothness": 0.9})
    assert plain.episodes != smooth.episodes
    card = wmbench.task_card(TASK)
    with pytest.raises(CheckpointError, match="unknown config fields"):
        make_policy("random", card, config={"speed": 1})
    with pytest.raises(CheckpointError, match="did you mean 'random'"):
        make_policy("randon", card, config={"smoothness": 0.1})


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="at least one episode"):
        evaluate(TASK, episodes=0)
    with pytest.raises(NotRegisteredError):
        evaluate("Gym-Hoper")
    with pytest.raises(WmbenchError, match="neither a checkpoint"):
        evaluate(TASK, "no-such-policy")
    with pytest.raises(WmbenchError, match="neither a checkpoint"):
        evaluate(TASK, simulator="no-such-model", episodes=1)


def episode(**changes):
    rows = 4
    values = {
        "observation": np.zeros((rows + 1, 2), np.float32),
        "action": np.zeros((rows, 1), np.float32),
        "reward": np.arange(rows, dtype=np.float64),
        "terminated": np.array([False, False, False, True]),
        "truncated": np.zeros(rows, bool),
        "success": np.array([False, True, False, False]),
        "seed": 5,
    }
    return EpisodeData(**(values | changes))


def test_outcomes():
    assert outcome(episode()) == {
        "seed": 5,
        "once": True,
        "at_end": False,
        "valid": True,
        "fault": "",
        "returns": 6.0,
        "length": 4,
        "terminated": True,
    }
    assert outcome(episode(diverged=True))["fault"] == "the prediction was not finite"
    assert outcome(episode(invalid="broke", diverged=True))["fault"] == "broke"
    wild = outcome(episode(reward=np.array([1.0, np.nan, 0.0, 0.0])))
    assert (wild["valid"], wild["fault"], wild["returns"]) == (False, "the return is not finite", 0.0)
    nothing = {k: getattr(episode(), k)[:0] for k in ("action", "reward", "terminated", "truncated", "success")}
    empty = outcome(episode(**nothing, invalid="reset failed"))
    assert (empty["valid"], empty["length"], empty["at_end"]) == (False, 0, False)


def test_evaluations_that_do_not_belong_together_are_refused():
    hopper, walker = (evaluate(f"wmbench/Gym-{name}-v0", episodes=1) for name in ("Hopper", "Walker2d"))
    with pytest.raises(DatasetError, match="exactly one task"):
        measure_success({"a": hopper, "b": walker})
    with pytest.raises(DatasetError, match="none"):
        measure_success({})
    with pytest.raises(DatasetError, match="at least one episode"):
        record_success(wmbench.task_card(TASK), "s", [])
    with pytest.raises(DatasetError, match="lacks the field 'once'"):
        record_success(wmbench.task_card(TASK), "s", [{"seed": 0}])


def test_provenance_is_plain_and_complete():
    found = provenance()
    assert json.loads(json.dumps(found)) == found
    assert {"date", "versions", "commit", "dirty", "cpu", "cores", "gpu", "threads"} <= set(found)
    assert found["cores"] >= 1


def test_the_command_prints_a_table_and_writes_the_record(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main("Gym-Hopper", episodes=3)
    shown = capsys.readouterr().out
    assert "success" in shown
    assert "95 % interval" in shown
    record = json.loads((tmp_path / "runs/evaluate/Gym-Hopper-random-true-s0.json").read_text())
    assert len(record["episodes"]) == 3
    main("Gym-Hopper", episodes=2, policy_config='{"smoothness": 0.5}', out=tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())["settings"]["policy_config"] == {"smoothness": 0.5}
    for bad in ({"episodes": 0}, {"policy_config": "nonsense"}, {"policy_config": "[1]"}):
        with pytest.raises(WmbenchError, match="--"):
            main("Gym-Hopper", **bad)
