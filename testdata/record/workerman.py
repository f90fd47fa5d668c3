"""Two users of workerman-chat, who do what its page does: log in, say something to all and to one, leave.

Usage: workerman.py 2014-08|2014-09|2015-11, which is the dialect. The server is workerman-chat itself, as workerman.sh starts it. Ends by itself.
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect

URL = "ws://127.0.0.1:7272/"
IS_MANUAL_S = sys.argv[1] == "2014-08"
OPTIONS = {"compression": None, "ping_interval": None, "proxy": None}


async def wait_for(socket, kind):
    """Reads until a message of this type comes; answers heartbeats as the page does."""
    while True:
        message = json.loads(await asyncio.wait_for(socket.recv(), 30))
        if message["type"] == "ping":
            await socket.send('{"type":"pong"}')
        if message["type"] == kind:
            # Its processes tell each other of a login behind the answer to it.
            await asyncio.sleep(0.3)
            return message


async def log_in(socket, name):
    login = {"client_name": name, "room_id": 7}
    if IS_MANUAL_S:
        login = {"name": name}
    await socket.send(json.dumps({"type": "login", **login}, ensure_ascii=False))
    message = await wait_for(socket, "login")
    return message["uid"] if IS_MANUAL_S else message["client_id"]


def say(recipient, name, content):
    to = {"to_client_id": recipient, "to_client_name": name}
    if IS_MANUAL_S:
        to = {"to_uid": recipient}
    return json.dumps({"type": "say", **to, "content": content}, ensure_ascii=False)


async def main():
    async with connect(URL, **OPTIONS) as present:
        present_id = await log_in(present, "猪")
        async with connect(URL, **OPTIONS) as guest:
            await log_in(guest, "O'Neil & <b>")
            await wait_for(present, "login")
            await guest.send(say("all", "所有人", "hi, <all> !\nit's me"))
            await wait_for(guest, "say")
            await wait_for(present, "say")
            # A page's form has strings only.
            await guest.send(say(str(present_id), "猪", "psst"))
            await wait_for(present, "say")
            if not IS_MANUAL_S:
                # Whoever says it gets a copy, and there is a heartbeat.
                await wait_for(guest, "say")
                await wait_for(guest, "ping")
            # What it takes for text it takes for binary, too.
            await guest.send(say("all", "所有人", "binary").encode())
            await wait_for(guest, "say")
            await wait_for(present, "say")
        await wait_for(present, "logout")


asyncio.run(main())
