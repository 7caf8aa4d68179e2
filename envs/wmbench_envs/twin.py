"""From plain arguments to a learned twin: finds the model and its starts, and says what does not fit."""

from __future__ import annotations

from typing import Any

from gymnasium.vector import AutoresetMode

from wmbench import checkpoints
from wmbench.banks import recorded_states
from wmbench.cards import TaskCard
from wmbench.devices import torch_device
from wmbench.episodes import Dataset
from wmbench.errors import CheckpointError, RenderError
from wmbench.registration import task_card
from wmbench.views import View
from wmbench_envs.spaces import metadata
from wmbench_envs.twin_core import Imagination
from wmbench_envs.twin_env import LearnedEnv
from wmbench_envs.twin_pictures import TwinPictures
from wmbench_envs.twin_render import TwinRenderer
from wmbench_envs.twin_starts import BankStarts, Starts, TrueStarts
from wmbench_envs.twin_vector import LearnedVectorEnv


def make_twin(
    task: TaskCard | str,
    *,
    simulator: str,
    init: str | None = None,
    device: str = "cpu",
    view: View | None = None,
    uncertainty: bool = False,
    render_mode: str | None = None,
    height: int = 240,
    width: int = 320,
) -> LearnedEnv:
    """One imagined environment of a task; :func:`wmbench_envs.make.make_env` has checked the plain options.

    Args:
        task: Card, id or short name.
        simulator: A checkpoint folder, or the name of a world model that is shipped or needs no checkpoint.
        init: ``"bank"`` (starts stored with the checkpoint), ``"true"`` (the true simulator's own reset with
            the same seed), None: the bank if there is one, else the true simulator, or the folder of a dataset:
            any recorded state of its train split.
        device: Torch device of the model.
        view: What observations consist of, None for the state alone; pictures as
            :class:`wmbench_envs.twin_pictures.TwinPictures` says.
        uncertainty: Whether infos carry the model's named uncertainties.
        render_mode: None or ``"rgb_array"``.
        height: Pixels of a frame.
        width: Pixels of a frame.

    Raises:
        CheckpointError: The model is unreadable, unsafe, or made for another task; or it has no bank.
        MissingHeadError: The model lacks a prediction that the task needs.
        RenderError: A render mode that is unknown, or that nothing here can serve.
        ViewError: Pictures that neither the model nor the task's card can give.
        ValueError: The device cannot be used here.
    """
    card = task_card(task) if isinstance(task, str) else task
    core = _core(card, simulator, 1, init=init, device=device, array="numpy", uncertainty=uncertainty)
    _look(card, core, view)
    return LearnedEnv(core, _renderer(card, core, render_mode, height, width), view)


def make_twin_vec(
    task: TaskCard | str,
    num_envs: int,
    *,
    simulator: str,
    init: str | None = None,
    device: str = "cpu",
    array: str = "numpy",
    vectorization: str = "sync",
    autoreset_mode: str = "NextStep",
    view: View | None = None,
    uncertainty: bool = False,
    render_mode: str | None = None,
    height: int = 240,
    width: int = 320,
) -> LearnedVectorEnv:
    """N imagined environments of a task, advanced by one model call per step.

    Args:
        task: Card, id or short name.
        num_envs: N.
        simulator: As in :func:`make_twin`.
        init: As in :func:`make_twin`; ``"true"`` loops over the rows that start.
        device: Torch device of the model.
        array: ``"numpy"`` or ``"torch"``: what goes in and out. Tensors stay on the device.
        vectorization: Only ``"sync"``: all rows are one batch of one process.
        autoreset_mode: ``"NextStep"``, ``"SameStep"`` or ``"Disabled"``.
        view: As in :func:`make_twin`.
        uncertainty: Whether infos carry the model's named uncertainties.
        render_mode: None or ``"rgb_array"``.
        height: Pixels of a frame.
        width: Pixels of a frame.

    Raises:
        CheckpointError: As :func:`make_twin`.
        MissingHeadError: As :func:`make_twin`.
        RenderError: As :func:`make_twin`.
        ValueError: The device cannot be used here, or another vectorization is asked for.
    """
    card = task_card(task) if isinstance(task, str) else task
    if vectorization != "sync":
        raise ValueError(
            f"{card.id}: a learned twin steps all rows as one batch; vectorization={vectorization!r} is for the "
            "true simulator, leave it out"
        )
    core = _core(card, simulator, num_envs, init=init, device=device, array=array, uncertainty=uncertainty)
    _look(card, core, view)
    renderer = _renderer(card, core, render_mode, height, width)
    return LearnedVectorEnv(core, renderer, array=array, autoreset_mode=AutoresetMode(autoreset_mode), view=view)


def _core(
    card: TaskCard, simulator: str, num_envs: int, *, init: str | None, device: str, array: str, uncertainty: bool
) -> Imagination:
    """The model and its starts."""
    where = torch_device(card.id, device)
    folder = checkpoints.find(simulator, card, kind="world_model")
    model = checkpoints.resolve(simulator, card, kind="world_model", device=device)
    bank = None if folder is None or init == "true" else checkpoints.load_bank(folder)
    starts: Starts
    if init not in (None, "bank", "true"):
        dataset = Dataset(init, task=card)
        starts = BankStarts(recorded_states(dataset), card, device=where, source=f"{dataset.folder}")
    elif bank is not None:
        starts = BankStarts(bank, card, device=where, source=f"{folder}")
    elif init == "bank":
        raise CheckpointError(
            f"{card.id}: {simulator!r} has no bank of starts ({checkpoints.BANK}); "
            "use init='true', which resets the true simulator"
        )
    else:
        starts = TrueStarts(card, device=where)
    return Imagination(card, model, starts, num_envs, device=where, array=array, uncertainty=uncertainty)


def _look(card: TaskCard, core: Imagination, view: View | None) -> None:
    """Let the core show what a view asks for."""
    if view is not None and view.images:
        core.pictures = TwinPictures(card, core.model, view.of(card), core.num_envs)


def _renderer(card: TaskCard, core: Imagination, render_mode: str | None, height: int, width: int) -> Any:
    """The renderer for a render mode, None for none."""
    if render_mode is None:
        return None
    if render_mode not in metadata(card)["render_modes"]:
        raise RenderError(f"{card.id}: render_mode must be None or 'rgb_array', got {render_mode!r}")
    return TwinRenderer(card, core.model, height=height, width=width)
