"""A DNS server that may change its mind with every question."""

import asyncio
from ipaddress import ip_address

from dnslib import AAAA, CNAME, QTYPE, RR, A, DNSRecord

RECORDS = {"A": A, "AAAA": AAAA}


class Names(asyncio.DatagramProtocol):
    """`answers`: by name, what the first, second, ... question is told; the last holds for good. A name is an alias."""

    def __init__(self):
        self.answers, self.questions = {}, []

    def connection_made(self, transport):
        self._transport = transport

    def datagram_received(self, data, peer):
        question = DNSRecord.parse(data)
        name, kind = str(question.q.qname).rstrip(".").lower(), QTYPE[question.q.qtype]
        self.questions.append([name, kind])
        reply = question.reply()
        for record in self._records(name, kind, self.questions.count([name, kind])):
            reply.add_answer(record)
        reply.header.rcode = 0 if name in self.answers else 3
        self._transport.sendto(reply.pack(), peer)

    def _records(self, name, kind, time):
        for value in (self.answers.get(name) or [[]])[: max(time, 1)][-1]:
            if value in self.answers:
                yield RR(name, QTYPE.CNAME, rdata=CNAME(value), ttl=0)
                yield from self._records(value, kind, time)
            elif (":" in value) == (kind == "AAAA") and kind in RECORDS:
                yield RR(name, getattr(QTYPE, kind), rdata=RECORDS[kind](_octets(value)), ttl=0)


def _octets(address):
    """As bytes: dnslib reads no dotted quads in IPv6, which Python 3.13 and newer write for mapped addresses."""
    return tuple(ip_address(address).packed)
