"""The table of tasks in the README is the one that the cards give."""

from pathlib import Path

import wmbench
from wmbench_envs.table import success, update

README = Path(__file__).parents[2] / "envs" / "README.md"


def test_the_readme_is_current() -> None:
    text = README.read_text()
    assert update(text, wmbench.task_cards().values()) == text, "run: python -m wmbench_envs.table envs/README.md"


def test_rules_are_told_in_words() -> None:
    cards = wmbench.task_cards()
    assert success(cards["wmbench/Gym-HalfCheetah-v0"].success) == "return ≥ 4800"
    assert success(cards["wmbench/DMC-ReacherEasy-v0"].success) == "distance ≤ 0.06, at the last step"


def test_every_task_has_a_picture_of_its_own_and_no_other_has_one() -> None:
    folder = README.parent / "images"
    pictures = {path.stem: path.read_bytes() for path in folder.glob("*.png")}
    assert set(pictures) == {card.name for card in wmbench.task_cards().values()}
    assert all(data.startswith(b"\x89PNG") for data in pictures.values())
