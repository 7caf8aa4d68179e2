"""``import wmbench`` registers every task and stays light."""

import json
import subprocess
import sys

PROBE = """
import json, sys
import wmbench, gymnasium
names = ("torch", "mujoco", "dm_control", "mani_skill", "sapien", "stable_baselines3", "matplotlib", "scipy")
heavy = [m for m in names
         if m in sys.modules]
ids = [i for i in gymnasium.registry if i.startswith("wmbench/")]
print(json.dumps({"heavy": heavy, "ids": ids, "tasks": list(wmbench.task_cards())}))
"""


def test_import_registers_all_and_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)
    assert seen["heavy"] == []
    assert len(seen["tasks"]) >= 26
    assert set(seen["tasks"]) <= set(seen["ids"])


def test_registering_twice_changes_nothing() -> None:
    import gymnasium as gym

    import wmbench
    from wmbench.registration import register_all

    before = dict(gym.registry)
    register_all()
    assert dict(gym.registry) == before
    assert wmbench.task_card("DMC-CartpoleSwingup").id == "wmbench/DMC-CartpoleSwingup-v0"
