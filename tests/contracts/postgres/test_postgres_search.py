"""The search of the console in every binding, and what the database says of a row."""

from typing import Any
from uuid import uuid4


async def test_a_row_is_found_in_every_binding_and_an_unindexed_column_of_a_large_table_is_not_searched(
    own_db: Any,
) -> None:
    await own_db.run(
        "create table public.clips (id bigint primary key, owner text, request_id text, result jsonb, filler text);"
        "insert into public.clips select i, 'o' || i, 'r' || i, '[]', repeat('x', 400) from generate_series(1, 100) i"
    )
    await own_db.bind(
        "clips", table="clips", owner_column="owner", request_column="request_id", output_columns=["result"]
    )
    by_id = {"binding": "clips", "generation_id": "7", "by": "id"}
    assert (await own_db.call("outlast_find_rows", p_text="7"))["rows"] == [by_id]
    assert (await own_db.call("outlast_find_rows", p_text="r7"))["rows"] == [by_id | {"by": "request"}]
    assert (await own_db.call("outlast_find_rows", p_text="o7"))["rows"] == [by_id | {"by": "owner"}]
    await own_db.run(
        "insert into public.clips select i, 'o', 'r', '[]', repeat('x', 400) from generate_series(101, 45000) i;"
        "create index on public.clips (owner)"
    )
    found = await own_db.call("outlast_find_rows", p_text="o")
    assert len(found["rows"]) == 20
    assert found["not_searched"] == [{"binding": "clips", "column": "request_id"}]


async def test_the_row_of_a_generation_says_what_outlast_sees_of_it(db: Any) -> None:
    generation = await db.generation(status="running", output=None)
    facts = await db.call("outlast_console_row", p_id=generation)
    assert (facts["bound"], facts["usable"], facts["table"], facts["media"]) == (True, True, "public.generations", [])
    row = facts["row"]
    assert (row["status"], row["completed"], row["empty"], row["deleted"]) == ("running", False, True, False)
    assert row["past"] is False
    await db.run("update public.outlast_bindings set installed_at = now() + interval '1 h'")
    assert (await db.call("outlast_console_row", p_id=generation))["row"]["past"] is True
    for nobody in (str(uuid4()), "no uuid", ""):
        assert (await db.call("outlast_console_row", p_id=nobody))["row"] is None
    unbound = await db.call("outlast_console_row", p_id=generation, p_binding="none")
    assert (unbound["bound"], unbound["row"], unbound["bindings"]) == (False, None, ["generations"])
