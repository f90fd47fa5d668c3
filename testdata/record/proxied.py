"""A client of the chat behind proxies: whose address is 203.0.113.7, which 198.51.100.1 is the proxy of.

Usage: proxied.py PATH [NAME=VALUE of a header field…]. Logs in, says hi, leaves, or says why it was refused. Only what
is needed for a capture: no part of observer.
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

PATH, *FIELDS = sys.argv[1:]


async def main():
    fields = [field.split("=", 1) for field in FIELDS]
    options = {"compression": None, "ping_interval": None, "proxy": None, "local_addr": ("203.0.113.7", 0)}
    try:
        async with connect(f"ws://198.51.100.1:8080{PATH}", additional_headers=fields, **options) as socket:
            await socket.send('{"type":"login","name":"mynick"}')
            for _ in range(2):
                await socket.recv()
            await socket.send('{"type":"say","to_uid":"all","content":"hi, all !"}')
            print(json.loads(await socket.recv())["content"])
    except InvalidStatus as refused:
        print(refused)


asyncio.run(main())
