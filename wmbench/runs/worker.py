"""One track of a run in a process of its own: ``python -m wmbench.runs.worker FOLDER TRACK``."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path

from wmbench.errors import WmbenchError
from wmbench.runs.pipeline import run_track
from wmbench.runs.plan import read_plan


def main() -> int:
    """Run the track named on the command line, printing one JSON event per line.

    Returns:
        0 when all steps are done, 1 after printing the error as an event.
    """
    from wmbench.runs.quick import tracks

    folder, name = Path(sys.argv[1]), sys.argv[2]
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    lock = (folder / f".lock-{name}").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # an earlier worker whose parent was killed may still be ending

    def event(step: str, what: str, seconds: float) -> None:
        sys.stdout.write(json.dumps({"step": step, "what": what, "seconds": round(seconds, 3)}) + "\n")
        sys.stdout.flush()

    plan = read_plan(folder)
    track = tracks(plan)[name]
    try:
        run_track(folder, name, track.card, track.steps, plan, event)
    except WmbenchError as error:
        event(str(error), "error", 0.0)
        return 1
    except Exception:
        (folder / f"error-{name}.txt").write_text(traceback.format_exc())
        event(f"{traceback.format_exc().splitlines()[-1]} (see {folder / f'error-{name}.txt'})", "error", 0.0)
        return 1
    return 0


def _end_with_parent(parent: int) -> None:
    """End this process soon after the one that started it is gone, so that two never work on one track."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
