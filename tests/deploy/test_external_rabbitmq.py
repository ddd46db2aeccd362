import aio_pika
import pytest

from deploy.local.processes import StackError
from tests.external_rabbitmq import MANAGEMENT_VARIABLE, URL_VARIABLE, ExternalRabbitMQ


def test_without_variables_there_is_no_external_broker(monkeypatch):
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    monkeypatch.delenv(MANAGEMENT_VARIABLE, raising=False)
    assert ExternalRabbitMQ.from_environment() is None


def test_one_variable_without_the_other_is_an_error(monkeypatch):
    monkeypatch.setenv(URL_VARIABLE, "amqp://guest:guest@127.0.0.1:5672/")
    monkeypatch.delenv(MANAGEMENT_VARIABLE, raising=False)
    with pytest.raises(StackError, match=MANAGEMENT_VARIABLE):
        ExternalRabbitMQ.from_environment()


async def test_virtual_hosts_are_created_used_and_deleted(rabbitmq, monkeypatch):
    monkeypatch.setenv(URL_VARIABLE, rabbitmq.url)
    monkeypatch.setenv(MANAGEMENT_VARIABLE, rabbitmq.management_url)
    given = ExternalRabbitMQ.from_environment()
    url = await given.create_vhost("a/b")
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("q", exclusive=True)
    await given.delete_vhost("a/b")
    with pytest.raises(aio_pika.exceptions.AMQPError):
        await aio_pika.connect(url)
