"""The lines that a client has been shown, for its last look: a job's progress goes when the job ends (J10).

Best effort, in this process: whoever polls elsewhere, or comes later, is shown a finished request without its log.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from safelight.compat.fal.answers import has_ended

JOBS_MAX: Final = 200
"""Of at most 50 lines with 500 characters each (jobs/progress.py): 5 MB at the very worst."""


class SeenLogs:
    """Of the jobs that were asked about last."""

    def __init__(self, most: int = JOBS_MAX) -> None:
        self._most = most
        self._lines: OrderedDict[UUID, Sequence[str]] = OrderedDict()

    def with_logs(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The job as it is about to be shown, with the lines that were shown before where it has none any more."""
        job: UUID = row["id"]
        if row["logs"]:
            self._lines[job] = row["logs"]
            self._lines.move_to_end(job)
            if len(self._lines) > self._most:
                self._lines.popitem(last=False)
        elif has_ended(row) and (lines := self._lines.get(job)):
            return {**row, "logs": lines}
        return row
