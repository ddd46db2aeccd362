"""The sample source with temporary faults, and with any number of different sounds.

first=503|429|truncate|reset&times=2    fails the first two requests in this way
variant=7                               another sound (.wav), always the same for the same number
"""

import struct
from collections import Counter
from pathlib import Path

from aiohttp import web

from deploy.local.source import Source


class FaultySource(Source):
    """Adds query options to the sample source. `visits` counts requests by full URL."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(folder, port)
        self.visits: Counter[str] = Counter()

    async def _file(self, request: web.Request) -> web.StreamResponse:
        self.visits[request.path_qs] += 1
        if self.visits[request.path_qs] <= int(request.query.get("times", 0)):
            return await self._first_fault(request, request.query["first"])
        if "variant" in request.query:
            content = variant(self.folder / request.match_info["name"], int(request.query["variant"]))
            return web.Response(body=content, content_type="audio/wav")
        try:
            return await super()._file(request)
        except ConnectionResetError:  # the worker was killed during the download
            return web.Response()

    async def _first_fault(self, request: web.Request, fault: str) -> web.StreamResponse:
        if fault.isdigit():
            headers = {"Retry-After": "1"} if fault == "429" else {}
            return web.Response(status=int(fault), headers=headers, text="not now")
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        if fault == "truncate":
            content = (self.folder / request.match_info["name"]).read_bytes()
            response.content_length = len(content)
            await response.prepare(request)
            await response.write(content[: len(content) // 2])
            request.transport.close()
        else:
            request.transport.abort()
        return response


def variant(path: Path, number: int) -> bytes:
    """Return a sound that differs from all other variants in its last two samples."""
    return path.read_bytes()[:-4] + struct.pack("<I", number)
