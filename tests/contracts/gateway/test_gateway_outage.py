import asyncio

from deploy.local.gateway import Gateway

GENERATIONS = "/rest/v1/generations?select=id"


def headers(gateway):
    return {"apikey": gateway.service_role_key}


async def test_without_a_database_it_says_so_and_afterwards_goes_on(database_url, cable, tmp_path, http):
    there, name = database_url.rpartition("@")[0], database_url.rpartition("/")[2]
    gateway = Gateway(database_url=f"{there}@127.0.0.1:{cable.port}/{name}", storage_dir=tmp_path / "storage")

    async def ask(path):
        async with http.get(gateway.url + path, headers=headers(gateway)) as response:
            return response.status, await response.json()

    async with gateway:
        assert await ask(GENERATIONS) == (200, [])
        await cable.cut()
        status, body = await ask(GENERATIONS)
        assert (status, body["code"]) == (503, "PGRST000")
        status, body = await ask("/storage/v1/bucket")
        assert (status, body["statusCode"], body["code"]) == (544, "544", "DatabaseTimeout")
        answers = await asyncio.gather(*(ask(GENERATIONS) for _ in range(30)))
        assert {status for status, _ in answers} == {503}
        await cable.mend()
        assert await ask(GENERATIONS) == (200, [])
        assert (await ask("/storage/v1/bucket"))[0] == 200


async def test_it_starts_before_its_database(database_url, cable, tmp_path, http):
    there, name = database_url.rpartition("@")[0], database_url.rpartition("/")[2]
    await cable.cut()
    async with Gateway(database_url=f"{there}@127.0.0.1:{cable.port}/{name}", storage_dir=tmp_path / "s") as gateway:
        async with http.get(gateway.url + GENERATIONS, headers=headers(gateway)) as response:
            assert response.status == 503
        await cable.mend()
        async with http.get(gateway.url + GENERATIONS, headers=headers(gateway)) as response:
            assert response.status == 200


async def test_a_restart_keeps_address_keys_and_what_is_stored(gateway, project):
    url, key = gateway.url, gateway.service_role_key
    await project.ask("POST", "/storage/v1/bucket", json={"id": "main", "name": "main"})
    binary = {"Content-Type": "application/octet-stream"}
    await project.ask("POST", "/storage/v1/object/main/kept", data=b"kept", headers=binary)
    await gateway.stop()
    await gateway.start()
    assert (gateway.url, gateway.service_role_key) == (url, key)
    assert (await project.ask("GET", "/storage/v1/object/main/kept"))[1] == b"kept"


async def test_keys_are_good_from_run_to_run(database_url, tmp_path):
    made = [
        Gateway(database_url=database_url, storage_dir=tmp_path, jwt_secret="a secret that is long enough for HS256")
        for _ in range(2)
    ]
    assert made[0].service_role_key == made[1].service_role_key
    assert made[0].anon_key != made[0].service_role_key
