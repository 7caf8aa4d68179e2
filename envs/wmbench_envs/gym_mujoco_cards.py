"""Cards of Gymnasium's MuJoCo v5 tasks."""

from wmbench.cards import TaskCard

CARDS: tuple[TaskCard, ...] = ()
