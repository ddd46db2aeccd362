import json
from uuid import uuid4

import asyncpg
import pytest

USER = "0d3a0d3a-0000-4000-8000-000000000001"
FUNCTIONS = """
    create function public.typed(p_id uuid, p_list text[], p_data jsonb, p_ids uuid[] default null, p_n int default 7)
    returns jsonb language sql as $$ select jsonb_build_object('id', p_id, 'list', p_list, 'data', p_data,
      'ids', p_ids, 'n', p_n, 'role', current_user, 'sub', auth.uid()) $$;
    create function public.void_back() returns void language sql as $$ select $$;
    create function public.rows_back() returns table (a int, b text) language sql as $$ values (1, 'x'), (2, 'y') $$;
    create function public.numbers_back(n int) returns setof int language sql as $$ select generate_series(1, n) $$;
    create function public.refuses(code text) returns void language plpgsql as
      $$ begin raise exception 'no' using errcode = code, hint = 'try later', detail = 'because'; end $$;
    create function public.hidden() returns int language sql as $$ select 1 $$;
    revoke execute on function public.hidden() from public, anon, authenticated;
"""


async def call(project, name, key="service", **arguments):
    return (await project.request("POST", f"/rest/v1/rpc/{name}", key=key, json=arguments))[:2]


async def test_responses_are_those_recorded_from_postgrest(project):
    assert await project.replay("rest") > 0


async def test_arguments_are_converted_to_the_functions_types(project, database):
    await database.execute(FUNCTIONS)
    one = str(uuid4())
    status, body = await call(
        project, "typed", p_id=one, p_list=["a,b", '"'], p_data={"x": [1, None]}, p_ids=[one], p_n=None
    )
    expected = {"id": one, "list": ["a,b", '"'], "data": {"x": [1, None]}, "ids": [one], "n": None}
    assert (status, body) == (200, expected | {"role": "service_role", "sub": None})
    assert (await call(project, "typed", p_id=one, p_list=[], p_data=None))[1]["n"] == 7
    assert (await call(project, "typed", p_id="no uuid", p_list=[], p_data=None))[1]["code"] == "22P02"
    assert (await call(project, "typed", p_id=one))[0] == 404


async def test_results_have_the_functions_return_type(project, database):
    await database.execute(FUNCTIONS)
    assert (await call(project, "rows_back")) == (200, [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])
    assert (await call(project, "numbers_back", n=3)) == (200, [1, 2, 3])
    assert (await call(project, "void_back")) == (204, b"")


@pytest.mark.parametrize(
    ("code", "status"), [("P0001", 400), ("40001", 500), ("23505", 409), ("PT418", 418), ("57P01", 503), ("53300", 503)]
)
async def test_an_error_has_the_functions_code_hint_and_details(project, database, code, status):
    await database.execute(FUNCTIONS)
    found, body = await call(project, "refuses", code=code)
    if status != 503:
        assert body == {"code": code, "details": "because", "hint": "try later", "message": "no"}
    assert found == status


async def test_the_role_comes_from_the_token(project, database):
    await database.execute(FUNCTIONS)
    assert (await call(project, "hidden")) == (200, 1)
    assert (await call(project, "hidden", key="anon"))[0] == 401
    user = {"Authorization": f"Bearer {project.token(role='authenticated', sub=USER)}"}
    status, body, _ = await project.request("POST", "/rest/v1/rpc/hidden", key="anon", headers=user, json={})
    assert (status, body["code"]) == (403, "42501")
    arguments = {"p_id": USER, "p_list": [], "p_data": {}}
    _, body, _ = await project.request("POST", "/rest/v1/rpc/typed", key="anon", headers=user, json=arguments)
    assert (body["role"], body["sub"]) == ("authenticated", USER)


async def test_a_token_with_the_superuser_role_is_refused(project):
    wrong = {"Authorization": f"Bearer {project.token(role='postgres')}"}
    status, body, _ = await project.request("GET", "/rest/v1/generations", headers=wrong)
    assert (status, body["code"]) == (403, "42501")


async def test_users_see_their_own_rows_only(project, database):
    other = str(uuid4())
    await database.execute("insert into generations (user_id) values ($1), ($2)", USER, other)
    user = {"Authorization": f"Bearer {project.token(role='authenticated', sub=USER)}"}
    _, rows, _ = await project.request("GET", "/rest/v1/generations?select=user_id", key="anon", headers=user)
    assert rows == [{"user_id": USER}]


INJECTIONS = [
    "x'; drop table generations; --",
    'x"; drop table generations; --',
    "x) or true --",
    "%00",
    "\\' or 1=1 --",
]


@pytest.mark.parametrize("injection", INJECTIONS)
async def test_sql_in_values_and_names_is_not_executed(project, database, injection):
    await database.execute("insert into generations (prompt) values ('kept')")
    for parameters in (
        {"prompt": f"eq.{injection}"},
        {"prompt": f"in.({injection})"},
        {"prompt": f"like.{injection}"},
        {"prompt": f"is.{injection}"},
        {injection: "eq.1"},
        {"select": injection},
        {"select": f"{injection}:prompt"},
        {"order": injection},
        {"order": f"prompt.{injection}"},
        {"limit": injection},
        {"offset": injection},
    ):
        status, body, _ = await project.request("GET", "/rest/v1/generations", params=parameters)
        alias = "select" in parameters and parameters["select"].endswith(":prompt")
        assert status >= 400 or body == [] or alias, (parameters, body)
    for method, path, content in (
        ("POST", "/rest/v1/generations", {injection: 1}),
        ("POST", "/rest/v1/generations", {"prompt": injection}),
        ("PATCH", "/rest/v1/generations?prompt=eq.none", {injection: 1}),
        ("POST", "/rest/v1/rpc/outlast_health", {injection: 1}),
    ):
        await project.request(method, path, data=json.dumps(content))
    await project.request("POST", "/rest/v1/generations", params={"on_conflict": injection}, json={"prompt": "y"})
    await project.request("GET", f"/rest/v1/{injection.replace('%', '').replace('/', '')}")
    await project.request("POST", f"/rest/v1/rpc/{injection.replace('%', '').replace('/', '')}", json={})
    assert await database.fetchval("select count(*) from generations where prompt = 'kept'") == 1


async def test_a_write_of_several_rows_that_must_be_one_changes_nothing(project, database):
    await database.execute("insert into generations (prompt) values ('a'), ('a')")
    status, _, _ = await project.request(
        "PATCH",
        "/rest/v1/generations?prompt=eq.a",
        json={"prompt": "b"},
        headers={"Prefer": "return=representation", "Accept": "application/vnd.pgrst.object+json"},
    )
    assert status == 406
    assert await database.fetchval("select count(*) from generations where prompt = 'a'") == 2


async def test_an_altered_table_is_read_with_its_new_columns(project, database: asyncpg.Connection):
    await database.execute("insert into generations (prompt) values ('a')")
    path = "/rest/v1/generations?prompt=eq.a"
    assert "added" not in (await project.request("GET", path))[1][0]
    await database.execute("alter table generations add column added int default 5")
    assert (await project.request("GET", path))[1][0]["added"] == 5
