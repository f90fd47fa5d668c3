"""Conversations with Python's `autobahn` at both ends: fragments, pings, and permessage-deflate with every parameter.

Usage: both_autobahn.py HOST PORT. Writes the logs of both ends to standard output as a line of JSON, and ends by itself.
"""

import asyncio
import base64
import json
import sys

from autobahn.asyncio.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateOfferAccept,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)

HOST, PORT = sys.argv[1], int(sys.argv[2])
logs = []


def address(pair):
    return f"{pair[0]}:{pair[1]}"


class Logged:
    """Logs what one end sends and receives."""

    def logged_connection(self, end):
        own = address(self.transport.get_extra_info("sockname"))
        peer = address(self.transport.get_extra_info("peername"))
        client, server = (own, peer) if end == "client" else (peer, own)
        extensions = ", ".join(str(extension) for extension in self.websocket_extensions_in_use)
        self.entries = {"end": end, "client": client, "server": server, "extensions": extensions}
        self.entries |= {"sent": [], "received": [], "closed": []}
        logs.append(self.entries)

    def entry(self, payload, is_binary):
        return {"base64": base64.b64encode(payload).decode()} if is_binary else payload.decode()

    def say(self, payload, is_binary=False, **options):
        self.entries["sent"].append(self.entry(payload, is_binary))
        self.sendMessage(payload, is_binary, **options)

    def onMessage(self, payload, is_binary):
        self.entries["received"].append(self.entry(payload, is_binary))
        self.heard(payload, is_binary)

    def onClose(self, was_clean, code, reason):
        self.entries["closed"] = [self.remoteCloseCode, self.remoteCloseReason or ""]


class Server(Logged, WebSocketServerProtocol):
    def onOpen(self):
        self.logged_connection("server")

    def heard(self, payload, is_binary):
        # In fragments too, in between of those of the next message from the client.
        self.say(payload[::-1] if is_binary else payload.decode()[::-1].encode(), is_binary, fragmentSize=7)


class Client(Logged, WebSocketClientProtocol):
    def onOpen(self):
        self.logged_connection("client")
        self.left = [
            (b"hello hello hello hello", False, {}),
            ("猪猪 and 🐖".encode() * 3, False, {"fragmentSize": 5}),
            (b"", False, {}),
            (bytes(range(64)), True, {"fragmentSize": 16}),
            (b"hello hello hello hello", False, {}),
            (b"not compressed", False, {"doNotCompress": True}),
            (b"hello again " * 20, False, {}),
        ]
        # All at once: answers come while later ones are being sent.
        self.waiting = len(self.left)
        self.sendPing(b"before")
        for payload, is_binary, options in self.left:
            self.say(payload, is_binary, **options)

    def heard(self, payload, is_binary):
        self.waiting -= 1
        if self.waiting == 0:
            self.sendClose(3333, "enough 猪")

    def onClose(self, was_clean, code, reason):
        super().onClose(was_clean, code, reason)
        self.factory.is_closed.set_result(None)


# What the client offers, and what the server grants of it and asks for.
OFFERS = [
    (None, None),
    ({}, {}),
    ({"request_no_context_takeover": True}, {"request_no_context_takeover": True}),
    ({"request_max_window_bits": 9}, {"request_max_window_bits": 10}),
    ({"request_max_window_bits": 12, "request_no_context_takeover": True}, {}),
]


async def main():
    loop = asyncio.get_running_loop()
    granted = {}

    def accept(offers):
        for offer in offers:
            if isinstance(offer, PerMessageDeflateOffer) and granted["by server"] is not None:
                return PerMessageDeflateOfferAccept(offer, **granted["by server"])
        return None

    def accept_response(response):
        if isinstance(response, PerMessageDeflateResponse):
            return PerMessageDeflateResponseAccept(response)
        return None

    serving = WebSocketServerFactory(f"ws://{HOST}:{PORT}")
    serving.protocol = Server
    serving.setProtocolOptions(perMessageCompressionAccept=accept)
    server = await loop.create_server(serving, HOST, PORT)
    for offer, grant in OFFERS:
        granted["by server"] = grant
        factory = WebSocketClientFactory(f"ws://{HOST}:{PORT}/deflate")
        factory.protocol = Client
        factory.is_closed = loop.create_future()
        offers = [] if offer is None else [PerMessageDeflateOffer(**offer)]
        factory.setProtocolOptions(perMessageCompressionOffers=offers, perMessageCompressionAccept=accept_response)
        await loop.create_connection(factory, HOST, PORT)
        await factory.is_closed
    server.close()
    await asyncio.sleep(0.2)
    print(json.dumps(logs, ensure_ascii=False))


asyncio.run(asyncio.wait_for(main(), 50))
