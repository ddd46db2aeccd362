"""A DNS server that can give a different answer to each query."""

import asyncio
from ipaddress import ip_address

from dnslib import AAAA, CNAME, QTYPE, RR, A, DNSRecord

RECORDS = {"A": A, "AAAA": AAAA}


class DnsServer(asyncio.DatagramProtocol):
    """`answers`: by name, the records for the first, second, ... query; the last list is repeated.

    A record is an IP address, or a name in `answers`, which becomes a CNAME. `queries` has each query's name and type.
    """

    def __init__(self):
        self.answers, self.queries = {}, []

    def connection_made(self, transport):
        self._transport = transport

    def datagram_received(self, data, peer):
        question = DNSRecord.parse(data)
        name, kind = str(question.q.qname).rstrip(".").lower(), QTYPE[question.q.qtype]
        self.queries.append([name, kind])
        reply = question.reply()
        for record in self._records(name, kind, self.queries.count([name, kind])):
            reply.add_answer(record)
        reply.header.rcode = 0 if name in self.answers else 3
        self._transport.sendto(reply.pack(), peer)

    def _records(self, name, kind, time):
        for value in (self.answers.get(name) or [[]])[: max(time, 1)][-1]:
            if value in self.answers:
                yield RR(name, QTYPE.CNAME, rdata=CNAME(value), ttl=0)
                yield from self._records(value, kind, time)
            elif (":" in value) == (kind == "AAAA") and kind in RECORDS:
                yield RR(name, getattr(QTYPE, kind), rdata=RECORDS[kind](_address_bytes(value)), ttl=0)


def _address_bytes(address):
    """Return the address as bytes: dnslib cannot parse `::ffff:1.2.3.4`, which Python 3.13 and newer write."""
    return tuple(ip_address(address).packed)
