"""RABBITMQ_URL and the TLS files: accepted values, and errors that name the setting."""

import pytest
from pydantic import SecretStr

from handlers.settings import SettingsError
from tests.broker.certificate_authority import CertificateAuthority
from worker.broker.address import host_port, read_nodes, vhost
from worker.settings import Settings

SECRET = "secret-password"


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("amqp://u:p@a", ["a:5672"]),
        ("amqps://u:p@a/v", ["a:5671"]),
        ("amqp://u:p@a:1/v,b:2, c", ["a:1", "b:2", "c:5672"]),
        ("amqps://u:p@a/v,amqps://u:p@b:7/v", ["a:5671", "b:7"]),
        ("amqp://u:p@a/v,b:5672,b", ["a:5672", "b:5672"]),
        ("amqp://u:p@[::1]:1/v,[::2]:3", ["[::1]:1", "[::2]:3"]),
        ("amqp://u:with,commas@a/v,b", ["a:5672", "b:5672"]),
    ],
)
def test_a_url_lists_its_nodes_with_one_user_and_virtual_host(text, places):
    nodes = read_nodes(text)
    assert [host_port(node) for node in nodes] == places
    assert {(node.user, node.password, vhost(node)) for node in nodes} == {
        (nodes[0].user, nodes[0].password, vhost(nodes[0]))
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://u:p@a",
        f"amqp://u:{SECRET}@",
        f"amqp://u:{SECRET}@a:0/",
        f"amqp://u:{SECRET}@a:99999/",
        f"amqp://u:{SECRET}@a/v,",
        f"amqp://u:{SECRET}@a/v,b/w",
        f"amqp://u:{SECRET}@a/v,b:none",
        f"amqp://u:{SECRET}@a/v,amqp://u:{SECRET}@b/w",
        f"amqp://u:{SECRET}@a/v,amqp://u:other@b/v",
        f"amqp://u:{SECRET}@a/v,amqps://u:{SECRET}@b/v",
        f"amqp://u:{SECRET}@" + ",".join(f"h{n}" for n in range(17)),
    ],
)
def test_an_invalid_url_is_refused_without_repeating_its_password(text):
    with pytest.raises(SettingsError, match="RABBITMQ_URL") as refused:
        Settings.load(_env_file=None, rabbitmq_url=SecretStr(text))
    assert SECRET not in str(refused.value)


@pytest.fixture
def files(tmp_path):
    authority = CertificateAuthority(tmp_path, "authority")
    cert, key = authority.sign("client")
    (tmp_path / "text").write_text("not PEM")
    found = {"ca": authority.file, "cert": cert, "key": key, "text": tmp_path / "text", "gone": tmp_path / "gone"}
    return found | {"other key": authority.sign("other")[1]}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"ca": "gone"}, r"RABBITMQ_CA_FILE: .*gone cannot be read \(No such file"),
        ({"ca": "text"}, "RABBITMQ_CA_FILE: .*text contains no certificate"),
        ({"cert": "gone", "key": "key"}, "RABBITMQ_CERT_FILE: .*gone cannot be read"),
        ({"cert": "cert", "key": "gone"}, "RABBITMQ_KEY_FILE: .*gone cannot be read"),
        ({"cert": "cert", "key": "other key"}, "RABBITMQ_CERT_FILE: .* are not a certificate and its key"),
        ({"cert": "cert"}, "RABBITMQ_CERT_FILE: .* are not a certificate and its key"),
        ({"key": "key"}, "RABBITMQ_KEY_FILE: RABBITMQ_CERT_FILE is not set"),
    ],
)
def test_an_unusable_tls_file_is_refused_by_the_name_of_its_setting(files, names, message):
    given = {f"rabbitmq_{name}_file": files[file] for name, file in names.items()}
    with pytest.raises(SettingsError, match=message):
        Settings.load(_env_file=None, rabbitmq_url=SecretStr("amqps://u:p@h/"), **given)


def test_tls_files_with_an_amqp_url_are_refused(files):
    with pytest.raises(SettingsError, match="must begin with amqps://"):
        Settings.load(_env_file=None, rabbitmq_url=SecretStr("amqp://u:p@h/"), rabbitmq_ca_file=files["ca"])


def test_valid_tls_files_give_a_context_that_checks_the_host_name(files):
    settings = Settings.load(
        _env_file=None,
        rabbitmq_url=SecretStr("amqps://u:p@h/"),
        rabbitmq_ca_file=files["ca"],
        rabbitmq_cert_file=files["cert"],
        rabbitmq_key_file=files["key"],
    )
    assert settings.rabbitmq_tls.context().check_hostname
