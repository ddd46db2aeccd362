"""The address of a client behind reverse proxies."""

import pytest
from aiohttp.test_utils import make_mocked_request

from worker.web.client_address import client_address


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, ["1.2.3.4"], "peer"),
        (1, ["1.2.3.4"], "1.2.3.4"),
        (1, ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        (1, ["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
        (2, ["6.6.6.6, 1.2.3.4, 10.0.0.1"], "1.2.3.4"),
        (2, ["10.0.0.1"], "peer"),
        (1, ["unknown"], "peer"),
        (1, [], "peer"),
        (1, ["1.2.3.4, 2001:db8:0:0::1"], "2001:db8::1"),
    ],
)
def test_only_addresses_that_our_proxies_append_are_used(proxies, forwarded, address):
    headers = [("X-Forwarded-For", value) for value in forwarded]
    request = make_mocked_request("GET", "/", headers=headers).clone(remote="peer")
    assert client_address(request, proxies) == address
