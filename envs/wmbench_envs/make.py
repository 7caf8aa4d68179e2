"""Entry points of every registered id: the true simulator, or the learned twin where one is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gymnasium.vector import AutoresetMode

from wmbench.cards import TaskCard
from wmbench.episodes.storage import MANIFEST
from wmbench.errors import ViewError, WorldError
from wmbench.registration import task_card
from wmbench.views import View
from wmbench.worlds import Asked, World, parse_world

AUTORESET = {mode.value: mode for mode in AutoresetMode}


def make_env(
    task: str,
    simulator: str | None = None,
    *,
    init: str | None = None,
    device: str = "cpu",
    observation: str = "state",
    image_size: int | Sequence[int] = 64,
    camera: str | None = None,
    render_preset: str | None = None,
    frame_stack: int = 1,
    action_repeat: int = 1,
    world: Asked = None,
    uncertainty: bool = False,
    render_mode: str | None = None,
    height: int = 240,
    width: int = 320,
) -> Any:
    """One environment of a task; what ``gymnasium.make(id, ...)`` calls.

    Args:
        task: Id of the task.
        simulator: None for the true simulator; otherwise a checkpoint folder or the name of a world model.
        init: Where the twin's episodes begin: ``"bank"`` (stored with the checkpoint), ``"true"`` (the true
            simulator's own reset), None: the bank if there is one, or the folder of a dataset: in any recorded
            state of its train split. The true simulator has its own reset.
        device: Torch device of the twin. The true simulators run on the CPU.
        observation: ``"state"``, the flat float32 vector of the card; ``"rgb"``, ``"depth"`` or ``"segmentation"``,
            pictures; or several of them joined by ``+`` in this order, which gives a dictionary.
        image_size: Pixels of each side of a picture, or height and width.
        camera: Name of one of the card's cameras, None for its first.
        render_preset: One of the card's presets, None for its first.
        frame_stack: Pictures of the last so many steps along a new first axis; 1: no such axis.
        action_repeat: Control steps for which every action is applied; the environment's card is then
            ``card.repeated(action_repeat)``.
        world: Where the true simulator's episodes take place: None or ``"nominal"``; ``"near"`` or ``"far"``, every
            perturbation of the task drawn by the episode's seed; or a dict of perturbations to a number, ``"near"`` or
            ``"far"``. See :mod:`wmbench.worlds`.
        uncertainty: Whether the twin reports its model's uncertainty in info.
        render_mode: None or ``"rgb_array"``.
        height: Pixels of a frame.
        width: Pixels of a frame.

    Raises:
        NotRegisteredError: Unknown task.
        CardError: An action repeat that is no positive integer.
        RenderError: Pictures that cannot be had here; says what to install.
        ViewError: An observation, camera or preset that this task does not have, or a size that is none.
        WorldError: A world that this task, or a learned simulator, does not have.
        ValueError: An unknown value of an option, or one that this simulator does not have.
    """
    card = task_card(task).repeated(action_repeat)
    _check_options(card, simulator, init, uncertainty)
    view = _view(card, observation, image_size, camera, render_preset, frame_stack)
    other = _world(card, simulator, world)
    if simulator is None:
        from wmbench_envs.true_env import TrueEnv

        return TrueEnv(card, view=view, render_mode=render_mode, height=height, width=width, world=other)
    from wmbench_envs.twin import make_twin

    return make_twin(
        task=card,
        simulator=simulator,
        init=init,
        device=device,
        view=view,
        uncertainty=uncertainty,
        render_mode=render_mode,
        height=height,
        width=width,
    )


def make_vec(
    task: str,
    num_envs: int = 1,
    simulator: str | None = None,
    *,
    init: str | None = None,
    device: str = "cpu",
    array: str = "numpy",
    vectorization: str = "sync",
    autoreset_mode: str | AutoresetMode = "NextStep",
    observation: str = "state",
    image_size: int | Sequence[int] = 64,
    camera: str | None = None,
    render_preset: str | None = None,
    frame_stack: int = 1,
    action_repeat: int = 1,
    world: Asked = None,
    uncertainty: bool = False,
    render_mode: str | None = None,
    height: int = 240,
    width: int = 320,
    max_episode_steps: int | None = None,
) -> Any:
    """A batch of environments of a task; what ``gymnasium.make_vec(id, num_envs=..., ...)`` calls.

    Args:
        task: Id of the task.
        num_envs: Rows of the batch.
        simulator: As in :func:`make_env`.
        init: As in :func:`make_env`.
        device: Torch device of the twin, and of the tensors if ``array="torch"``. ManiSkill's tasks are simulated on
            it: with ``"cuda"`` by PhysX on the GPU, which is another simulation (``card.physics``).
        array: ``"numpy"`` or ``"torch"``, what observations, rewards and ends are returned as.
        vectorization: ``"sync"`` (one process) or ``"async"`` (one process per row), for the true simulator.
        autoreset_mode: ``"NextStep"``, ``"SameStep"`` or ``"Disabled"``, with Gymnasium's meaning.
        observation: As in :func:`make_env`.
        image_size: As in :func:`make_env`.
        camera: As in :func:`make_env`.
        render_preset: As in :func:`make_env`.
        frame_stack: As in :func:`make_env`.
        action_repeat: As in :func:`make_env`.
        world: As in :func:`make_env`.
        uncertainty: As in :func:`make_env`.
        render_mode: None or ``"rgb_array"``.
        height: Pixels of a frame.
        width: Pixels of a frame.
        max_episode_steps: Only None or the card's horizon: the time limit is part of the task.

    Raises:
        NotRegisteredError: Unknown task.
        CardError: An action repeat that is no positive integer.
        RenderError: Pictures that cannot be had here; says what to install.
        ViewError: An observation, camera or preset that this task does not have, or a size that is none.
        WorldError: A world that this task, or a learned simulator, does not have.
        ValueError: An unknown value of an option, or one that this simulator does not have.
    """
    card = task_card(task).repeated(action_repeat)
    _check_options(card, simulator, init, uncertainty)
    view = _view(card, observation, image_size, camera, render_preset, frame_stack)
    other = _world(card, simulator, world)
    if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
        raise ValueError(f"{card.id}: num_envs must be a positive integer, got {num_envs!r}")
    _one_of(card, "array", array, ("numpy", "torch"))
    _one_of(card, "vectorization", vectorization, ("sync", "async"))
    if max_episode_steps not in (None, card.horizon):
        raise ValueError(f"{card.id}: the time limit is {card.horizon} steps by its card, not {max_episode_steps}")
    if isinstance(autoreset_mode, AutoresetMode):
        autoreset_mode = autoreset_mode.value
    _one_of(card, "autoreset_mode", autoreset_mode, tuple(AUTORESET))
    if simulator is None and card.physics == "physx-cpu" and str(device).startswith("cuda"):
        if other is not None:
            raise WorldError(
                f"{card.id}: the GPU simulation has the nominal world alone; other worlds need device='cpu'"
            )
        if (vectorization, render_mode) != ("sync", None) or view.images or card.action_repeat > 1:
            raise ValueError(
                f"{card.id}: the GPU simulation gives states of single control steps from one process; async "
                "vectorization, pictures and action_repeat need device='cpu'"
            )
        from wmbench_envs.maniskill_vector import ManiSkillVectorEnv

        return ManiSkillVectorEnv(card, num_envs, device=device, array=array, autoreset_mode=AUTORESET[autoreset_mode])
    if simulator is None:
        from wmbench_envs.true_vector import TrueVectorEnv

        return TrueVectorEnv(
            card,
            num_envs,
            vectorization=vectorization,
            autoreset_mode=AUTORESET[autoreset_mode],
            array=array,
            device=device,
            view=view,
            render_mode=render_mode,
            height=height,
            width=width,
            world=other,
        )
    from wmbench_envs.twin import make_twin_vec

    return make_twin_vec(
        task=card,
        num_envs=num_envs,
        simulator=simulator,
        init=init,
        device=device,
        array=array,
        vectorization=vectorization,
        autoreset_mode=autoreset_mode,
        view=view,
        uncertainty=uncertainty,
        render_mode=render_mode,
        height=height,
        width=width,
    )


def _view(card: TaskCard, observation: Any, size: Any, camera: Any, preset: Any, stack: Any) -> View:
    """The view that the options describe, for this task."""
    try:
        view = View.parse(observation, image_size=size, camera=camera, render_preset=preset, frame_stack=stack)
    except ViewError as error:
        raise ViewError(f"{card.id}: {error}") from None
    return view.of(card)


def _world(card: TaskCard, simulator: Any, asked: Any) -> World | None:
    """The world that is asked for, which only the true simulator can be put in."""
    world = parse_world(card, asked)
    if world is not None and simulator is not None:
        raise WorldError(
            f"{card.id}: a learned simulator has the world of the data it was trained on; world={asked!r} cannot "
            "be asked of it: leave out world, or simulator"
        )
    return world


def _check_options(card: TaskCard, simulator: Any, init: Any, uncertainty: Any) -> None:
    if simulator is not None and not isinstance(simulator, str):
        raise ValueError(
            f"{card.id}: simulator must be a checkpoint folder or a name, as a string, got {type(simulator).__name__}"
        )
    if init not in (None, "bank", "true") and not (isinstance(init, str) and (Path(init) / MANIFEST).exists()):
        raise ValueError(f"{card.id}: init must be None, 'bank', 'true', or the folder of a dataset, got {init!r}")
    _one_of(card, "uncertainty", uncertainty, (False, True))
    if uncertainty and simulator is None:
        raise ValueError(f"{card.id}: the true simulator has no uncertainty; name a world model with simulator=...")


def _one_of(card: TaskCard, option: str, value: Any, known: tuple[Any, ...]) -> None:
    if not any(type(value) is type(k) and value == k for k in known):
        raise ValueError(f"{card.id}: {option} must be one of {', '.join(map(repr, known))}, got {value!r}")
