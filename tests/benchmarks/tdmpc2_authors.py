"""Their side of the speed comparison: plans and updates of a checkout of the authors' TD-MPC2, on request.

Run by test_tdmpc2_speed.py with the interpreter of an environment that has their dependencies. It reads their files as
they are; for a CPU it replaces the device, which they hard-code, and on a GPU it does what their train.py does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import io
import sys
import time
from pathlib import Path
from typing import Any

import torch

DEVICE = (("'cuda:0'", "'cpu'"), (", capturable=True", ""), ("WorldModel(cfg).to(self.device)", "WorldModel(cfg)"))


def load(name: str, path: Path, device: str) -> Any:
    """One of their files as a module, which runs on the CPU if asked to."""
    source = path.read_text()
    for old, new in DEVICE if device == "cpu" else ():
        source = source.replace(old, new)
    spec = importlib.util.spec_from_loader(name, None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


def settings(root: Path, size: int, compiled: bool) -> Any:
    """Their settings for 24 observations and 6 actions."""
    conf = importlib.import_module("omegaconf").OmegaConf
    values = conf.to_container(conf.load(root / "config.yaml"))
    sizes = importlib.import_module("common").MODEL_SIZE
    values = {k: None if v == "???" else v for k, v in values.items() if k != "defaults"}
    values |= {k: float(values[k]) for k in ("lr", "entropy_coef")} | sizes[size]
    values |= {"multitask": False, "task_dim": 0, "action_dim": 6, "episode_length": 500, "compile": compiled}
    values |= {"obs_shape": {"state": (24,)}, "bin_size": (values["vmax"] - values["vmin"]) / (values["num_bins"] - 1)}
    kind = dataclasses.make_dataclass("Settings", values)
    kind.get = lambda self, key, default=None: getattr(self, key, default)  # type: ignore[attr-defined]
    return kind(**values)


def main(checkout: str, size: str, threads: str, compiled: str, device: str) -> None:
    """Answer each line of input, ``plan`` or ``update``, with wall and processor seconds."""
    torch.set_num_threads(int(threads))
    if device == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    root = Path(checkout) / "tdmpc2"
    sys.path.insert(0, str(root))
    cfg = settings(root, int(size), compiled == "1")
    load("common.scale", root / "common/scale.py", device)
    with contextlib.redirect_stdout(io.StringIO()):
        agent = load("authors_agent", root / "tdmpc2.py", device).TDMPC2(cfg)
    batch = [torch.randn(4, 256, 24), torch.rand(3, 256, 6) * 2 - 1, torch.randn(3, 256, 1), torch.zeros(3, 256, 1)]
    batch = [x.to(device) for x in batch]
    observation = torch.randn(1, 24).to(device)
    for line in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        torch.compiler.cudagraph_mark_step_begin()
        if line.strip() == "plan":
            with torch.no_grad():
                agent.plan(observation, t0=False, eval_mode=False)
        else:
            agent._update(*batch)
        if device == "cuda":
            torch.cuda.synchronize()
        print(time.perf_counter() - wall, time.process_time() - processor, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
