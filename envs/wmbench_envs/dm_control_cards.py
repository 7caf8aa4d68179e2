"""Cards of the dm_control suite's tasks."""

from wmbench.cards import TaskCard

CARDS: tuple[TaskCard, ...] = ()
