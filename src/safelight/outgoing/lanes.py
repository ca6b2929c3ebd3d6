"""Whose turn it is among what is due: the oldest first, and no lane more than its share.

A lane is what must not be overrun, and must not hold up the others: an endpoint, or a host that a project named. Each
gets so many tries at once and no more, so one that hangs holds up nobody but itself; where the oldest wait for lanes
that are full, the claim looks at the lanes and not along the queue, or a thousand deliveries to a dead server would
hide the one to a living one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from safelight.db.pool import Conn, Row

WINDOW: Final = 1_000
"""Of what is due, the oldest so many are looked at first: nearly always that is all. To go from lane to lane costs by
the lanes (2.5 s for 60,000), and an app whose customers have hosts of their own has tens of thousands."""

# Both take the same parameters: the busy lanes and how many of each, places in a lane, how many in all, projects of
# which none is taken, WINDOW.
_OLDEST: Final = """
    with due as materialized (
        select w.id from (
            select n.*, row_number() over (partition by n.lane order by n.due_at, n.id) as place
            from (select <id> as id, due_at, lane, project_id from <table>
                where <waits> and due_at <= now() order by due_at limit $6) n
        ) w left join unnest($1::text[], $2::int[]) as busy (lane, taken) on busy.lane = w.lane
        where w.place <= $3 - coalesce(busy.taken, 0) and w.project_id <> all ($5::uuid[])
        order by w.due_at limit $4
    )"""
_ALONG_LANES: Final = """
    with recursive lanes as (
        (select lane, project_id from <table> where <waits> order by lane limit 1)
        union all
        (select n.lane, n.project_id from lanes l, lateral (
            select lane, project_id from <table> where <waits> and lane > l.lane order by lane limit 1) n)
    ), due as materialized (
        select d.id from lanes l
        left join unnest($1::text[], $2::int[]) as busy (lane, taken) on busy.lane = l.lane,
        lateral (select <id> as id, due_at from <table> where <waits> and lane = l.lane and due_at <= now()
            order by due_at limit greatest($3 - coalesce(busy.taken, 0), 0)) d
        where l.project_id <> all ($5::uuid[]) and $6 > 0
        order by d.due_at limit $4
    )"""
_IS_MORE_DUE: Final = "select count(*) >= $1 from (select from <table> where <waits> and due_at <= now() limit $1) d"


class Lanes:
    """A table of what is to be sent, with `lane`, `due_at` and `project_id`: a lane is of one project.

    `waits` is the condition of its two indexes, on `due_at` and on `(lane, due_at)`. `take` ends the statement: it
    claims and returns those whose ids are in `due`, skips what is locked, and its own parameters begin at $7.
    """

    def __init__(self, table: str, *, id_column: str, waits: str, take: str) -> None:
        def of_table(text: str) -> str:
            return text.replace("<table>", table).replace("<id>", id_column).replace("<waits>", waits)

        self._oldest = of_table(_OLDEST) + take
        self._along_lanes = of_table(_ALONG_LANES) + take
        self._is_more_due = of_table(_IS_MORE_DUE)

    async def claim(
        self,
        conn: Conn,
        busy: Mapping[str, int],
        full: Sequence[UUID],
        *,
        per_lane: int,
        limit: int,
        given: Sequence[object],
    ) -> list[Row]:
        """Take up to `limit` that are due, no more than `per_lane` of a lane with those that are `busy` already.

        `full`: projects of which none is taken. `given`: the parameters of `take`.
        """

        async def taken(statement: str, busy: Mapping[str, int], limit: int) -> list[Row]:
            return await conn.fetch(
                statement, list(busy), list(busy.values()), per_lane, limit, list(full), WINDOW, *given
            )

        rows = await taken(self._oldest, busy, limit)
        if len(rows) < limit and await conn.fetchval(self._is_more_due, WINDOW - len(rows)):
            # The oldest wait for lanes that are full: whose turn it is stands behind them.
            now_busy = Counter(busy) + Counter(str(row["lane"]) for row in rows)
            rows += await taken(self._along_lanes, now_busy, limit - len(rows))
        return rows
