import asyncio

from deploy.local.gateway import Gateway

GENERATIONS = "/rest/v1/generations?select=id"


def headers(gateway):
    return {"apikey": gateway.service_role_key}


async def test_during_a_database_outage_requests_fail_and_then_succeed_again(
    database_url, database_proxy, tmp_path, http
):
    server, name = database_url.rpartition("@")[0], database_url.rpartition("/")[2]
    gateway = Gateway(database_url=f"{server}@127.0.0.1:{database_proxy.port}/{name}", storage_dir=tmp_path / "storage")

    async def request(path):
        async with http.get(gateway.url + path, headers=headers(gateway)) as response:
            return response.status, await response.json()

    async with gateway:
        assert await request(GENERATIONS) == (200, [])
        await database_proxy.disconnect()
        status, body = await request(GENERATIONS)
        assert (status, body["code"]) == (503, "PGRST000")
        status, body = await request("/storage/v1/bucket")
        assert (status, body["statusCode"], body["code"]) == (544, "544", "DatabaseTimeout")
        answers = await asyncio.gather(*(request(GENERATIONS) for _ in range(30)))
        assert {status for status, _ in answers} == {503}
        await database_proxy.connect()
        assert await request(GENERATIONS) == (200, [])
        assert (await request("/storage/v1/bucket"))[0] == 200


async def test_the_gateway_starts_before_its_database(database_url, database_proxy, tmp_path, http):
    server, name = database_url.rpartition("@")[0], database_url.rpartition("/")[2]
    await database_proxy.disconnect()
    async with Gateway(
        database_url=f"{server}@127.0.0.1:{database_proxy.port}/{name}", storage_dir=tmp_path / "s"
    ) as gateway:
        async with http.get(gateway.url + GENERATIONS, headers=headers(gateway)) as response:
            assert response.status == 503
        await database_proxy.connect()
        async with http.get(gateway.url + GENERATIONS, headers=headers(gateway)) as response:
            assert response.status == 200


async def test_a_restart_keeps_address_keys_and_objects(gateway, project):
    url, key = gateway.url, gateway.service_role_key
    await project.request("POST", "/storage/v1/bucket", json={"id": "main", "name": "main"})
    binary = {"Content-Type": "application/octet-stream"}
    await project.request("POST", "/storage/v1/object/main/kept", data=b"kept", headers=binary)
    await gateway.stop()
    await gateway.start()
    assert (gateway.url, gateway.service_role_key) == (url, key)
    assert (await project.request("GET", "/storage/v1/object/main/kept"))[1] == b"kept"


async def test_keys_depend_only_on_the_jwt_secret(database_url, tmp_path):
    gateways = [
        Gateway(database_url=database_url, storage_dir=tmp_path, jwt_secret="a secret that is long enough for HS256")
        for _ in range(2)
    ]
    assert gateways[0].service_role_key == gateways[1].service_role_key
    assert gateways[0].anon_key != gateways[0].service_role_key
