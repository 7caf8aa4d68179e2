"""What every measure owes its reader: results that hold together, and the machinery around them."""

import json

import numpy as np
import pytest

from wmbench import registry
from wmbench.errors import DatasetError
from wmbench.measures import Measure, Result
from wmbench.measures.result import finite_or_none, json_list

GOOD = {
    "measure": "m",
    "name": "x",
    "subject": "s",
    "value": 1.0,
    "ci_low": 0.5,
    "ci_high": None,
    "n": 3,
    "n_invalid": 1,
    "unit": "1",
    "direction": "lower",
    "variant": "v",
    "reason": None,
    "details": {"curve": [1.0, None]},
}


def test_a_result_survives_json():
    result = Result(**GOOD)
    assert Result.from_json(json.loads(json.dumps(result.to_json()))) == result


@pytest.mark.parametrize(
    "change",
    [
        {"value": float("nan")},
        {"ci_low": float("-inf")},
        {"ci_high": float("nan")},
        {"value": None},
        {"direction": "up"},
        {"surprise": 1},
    ],
)
def test_what_is_no_result_is_refused(change):
    with pytest.raises(DatasetError, match="not a result"):
        Result.from_json(GOOD | change)


def test_details_hold_no_nan():
    with pytest.raises(ValueError, match="JSON"):
        Result(**(GOOD | {"details": {"x": float("nan")}})).to_json()
    assert json_list(np.array([[1.0, np.nan], [np.inf, 2.0]])) == [[1.0, None], [None, 2.0]]
    assert json_list(np.array([1, 2])) == [1, 2]
    assert finite_or_none(None) is None
    assert finite_or_none(np.inf) is None
    assert finite_or_none(2.0) == 2.0


def test_a_missing_array_is_named():
    measure = Measure("m", "?", "1", "lower", (0.0, None), ("a", "b"), "s", lambda arrays: [])
    assert measure({"a": np.zeros(1), "b": np.zeros(1)}) == []
    with pytest.raises(DatasetError, match=r"'m' needs the arrays \['b'\]"):
        measure({"a": np.zeros(1)})


@pytest.mark.parametrize("name", registry.measures.names())
def test_registered_measures_describe_themselves(name):
    measure = registry.measures.load(name)
    assert measure.name == name
    assert measure.question.endswith("?")
    assert measure.needs
    assert measure.source
    assert measure.direction in ("lower", "higher", "none")
    assert callable(measure.function)
