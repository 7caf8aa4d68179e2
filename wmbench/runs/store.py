"""One record per finished step, written atomically under a name derived from everything it depends on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from wmbench.errors import WmbenchError
from wmbench.files import write_json

SCHEMA = 1


class RecordStore:
    """The records of one run: ``records/<track>.<step>.<key>.json`` under the run's folder.

    The key is a digest of the step's parameters and of the *values* of the records it reads, so a
    step whose inputs changed is done again and an unchanged one is not.
    """

    def __init__(self, folder: Path) -> None:
        """Open or create the records folder of a run."""
        self.folder = folder / "records"
        self.folder.mkdir(parents=True, exist_ok=True)

    def key(self, track: str, step: str, parameters: dict[str, Any], inputs: dict[str, str]) -> str:
        """Content-derived name of a step's record.

        Args:
            track: What the step is about, for example a task's short name.
            step: Name of the step.
            parameters: Plain data that the step's outcome depends on.
            inputs: Step name to digest of the records it reads.
        """
        text = json.dumps([SCHEMA, track, step, parameters, inputs], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def path(self, track: str, step: str, key: str) -> Path:
        """Where a record is, or would be."""
        return self.folder / f"{track}.{step}.{key}.json"

    def read(self, track: str, step: str, key: str) -> dict[str, Any] | None:
        """A finished record, or None.

        Raises:
            WmbenchError: The file is there but is not a record.
        """
        path = self.path(track, step, key)
        if not path.exists():
            return None
        try:
            record = json.loads(path.read_text())
            assert record["schema"] == SCHEMA and "values" in record
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise WmbenchError(f"{path} is not a record of this version; delete it and run again") from error
        return record

    def write(self, track: str, step: str, key: str, values: dict[str, Any], **facts: Any) -> dict[str, Any]:
        """Commit a step's outcome.

        Args:
            track: As in :meth:`key`.
            step: As in :meth:`key`.
            key: As returned by :meth:`key`.
            values: Plain data that must be the same whenever the step is repeated with this key.
            facts: What may differ between repetitions: seconds, hardware, timings.

        Returns:
            The record as written.
        """
        record = {
            "schema": SCHEMA,
            "track": track,
            "step": step,
            "key": key,
            "digest": digest(values),
            "values": values,
            "facts": facts,
        }
        write_json(self.path(track, step, key), record)
        return json.loads(json.dumps(record))

    def all(self) -> list[dict[str, Any]]:
        """Every record in the folder, by name."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("[!.]*.json"))]


def digest(values: Any) -> str:
    """SHA-256 of plain data in canonical form."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
