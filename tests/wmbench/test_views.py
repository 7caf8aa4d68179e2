"""Views refuse what is none, survive JSON, and give back the options that they were made from."""

import json

import pytest

from wmbench.errors import ViewError
from wmbench.registration import task_card
from wmbench.views import View


@pytest.mark.parametrize(
    ("options", "names", "size"),
    [
        ({}, ("state",), (64, 64)),
        ({"observation": "rgb", "image_size": 32}, ("rgb",), (32, 32)),
        ({"observation": "state+depth+segmentation", "image_size": [3, 5]}, ("state", "depth", "segmentation"), (3, 5)),
        (
            {"observation": "rgb+depth", "image_size": (7, 9), "frame_stack": 4, "camera": "back"},
            ("rgb", "depth"),
            (7, 9),
        ),
    ],
)
def test_options_become_a_view_and_back(options: dict, names: tuple, size: tuple) -> None:
    view = View.parse(**options)
    assert (view.names, (view.height, view.width)) == (names, size)
    assert View.from_json(json.loads(json.dumps(view.to_json()))) == view
    assert View.parse(**json.loads(json.dumps(view.options()))) == view
    assert view.observation == options.get("observation", "state")
    assert view.images == tuple(name for name in names if name != "state")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"observation": "pixels"}, "'state', 'rgb', 'depth', 'segmentation'.*'pixels'"),
        ({"observation": "rgb+state"}, "in this order"),
        ({"observation": "rgb+rgb"}, "in this order"),
        ({"observation": ""}, "must be one of"),
        ({"observation": None}, "must be a string"),
        ({"observation": "rgb", "image_size": 0}, "image height"),
        ({"observation": "rgb", "image_size": (64, 2.0)}, "image width"),
        ({"observation": "rgb", "image_size": (64, 64, 3)}, "height and width"),
        ({"observation": "rgb", "image_size": "64"}, "image height"),
        ({"observation": "rgb", "image_size": True}, "image height"),
        ({"observation": "rgb", "frame_stack": 0}, "frame_stack"),
        ({"frame_stack": 2}, "the state alone has none"),
        ({"observation": "rgb", "camera": 0}, "camera must be a name"),
        ({"observation": "rgb", "render_preset": ""}, "render_preset must be a name"),
    ],
)
def test_what_is_no_view_is_refused(options: dict, fault: str) -> None:
    with pytest.raises(ViewError, match=fault):
        View.parse(**options)


def test_what_was_not_a_view_is_refused() -> None:
    good = View().to_json()
    for bad in ({**good, "zoom": 2}, {k: v for k, v in good.items() if k != "names"}, {**good, "names": 3}):
        with pytest.raises(ViewError):
            View.from_json(bad)


def test_shapes() -> None:
    view = View.parse("rgb+depth", image_size=(3, 5))
    assert view.image_shape("rgb") == (3, 5, 3)
    assert view.image_shape("depth") == (3, 5, 1)
    stacked = View.parse("rgb+depth", image_size=(3, 5), frame_stack=2)
    assert stacked.image_shape("rgb") == (2, 3, 5, 3)
    assert stacked.unstacked() == view


def test_a_task_names_its_own_camera_and_preset_and_knows_no_others() -> None:
    card = task_card("DMC-WalkerWalk")
    assert View.parse("rgb").of(card) == View(("rgb",), camera=card.cameras[0], preset=card.presets[0])
    kept = View(("rgb",), camera=card.cameras[1], preset=card.presets[1])
    assert kept.of(card) == kept
    for option in ("camera", "render_preset"):
        with pytest.raises(ViewError, match=f"WalkerWalk-v0: {option} must be one of .*'elsewhere'"):
            View.parse("rgb", **{option: "elsewhere"}).of(card)
