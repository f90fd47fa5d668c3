"""The manual's scenario with Python's `websockets` at both ends: one user is present, `mynick` logs in and says hi.

Usage: chat.py [--deflate] HOST [PORT]. Ends by itself. Only what is needed for a capture: no part of observer.
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

COMPRESSION = "deflate" if "--deflate" in sys.argv else None
HOST, PORT = ([word for word in sys.argv[1:] if word != "--deflate"] + ["7272"])[:2]
UIDS = iter([783654164, 783700053])
TIME = "2014-08-12 17:50:30"
users = {}


async def broadcast(message):
    for socket in users:
        await socket.send(json.dumps(message, separators=(",", ":")))


async def handle(socket):
    async for text in socket:
        message = json.loads(text)
        if message["type"] == "login":
            users[socket] = {"uid": next(UIDS), "name": message["name"]}
            user_list = {"type": "user_list", "user_list": list(users.values())}
            await socket.send(json.dumps(user_list, separators=(",", ":")))
            await broadcast({"type": "login", **users[socket], "time": TIME})
        elif message["type"] == "say":
            say = {"type": "say", "from_uid": users[socket]["uid"], "to_uid": message["to_uid"]}
            await broadcast({**say, "content": message["content"], "time": TIME})
    user = users.pop(socket)
    await broadcast({"type": "logout", **user, "time": TIME})


async def read(socket, count):
    for _ in range(count):
        await socket.recv()


async def main():
    async with serve(handle, HOST, PORT, compression=COMPRESSION, ping_interval=None):
        host = f"[{HOST}]" if ":" in HOST else HOST
        url = f"ws://{host}:{PORT}/"
        options = {"compression": COMPRESSION, "ping_interval": None, "proxy": None}
        async with connect(url, **options) as present:
            await present.send('{"type":"login","name":"\\u732a"}')
            await read(present, 2)
            async with connect(url, **options) as mynick:
                await mynick.send('{"type":"login","name":"mynick"}')
                await read(mynick, 2)
                await read(present, 1)
                await mynick.send('{"type":"say","to_uid":"all","content":"hi, all !"}')
                await read(mynick, 1)
                await read(present, 1)
            await read(present, 1)


asyncio.run(main())
