"""Runs cases of the Autobahn testsuite, and writes one JSON object a case to standard output: the suite's verdict, and
what the suite sent and received.

Owns how kosoku, which runs Autobahn's own case files, is called, and what of its results is told. Must not know the
observer. Bounded by the suite's own time limits, of which every case has one.

The suite's report names payloads by their first 64 bytes only. So what the cases ask the suite to send, and what it
hands to them, is noted here as it passes, and told with lengths and SHA-1 digests.
"""

import argparse
import asyncio
import base64
import faulthandler
import fnmatch
import hashlib
import json
import os
import sys

import kosoku
import kosoku._caseindex
import kosoku._report

CLOSE = 8
KINDS = {0: "continuation", 1: "text", 2: "binary"}


def octets(payload, is_text=False):
    """Payload as bytes. The cases were written for Python 2, so that a str of theirs has one byte a character; but as
    text kosoku takes and gives characters. An int is what became of a byte that a case cut out.
    """
    if isinstance(payload, int):
        return bytes([payload])
    if isinstance(payload, str):
        return payload.encode("utf-8" if is_text else "latin-1")
    return bytes(payload)


def repeated(payload, length):
    """As the suite's sendFrame has it: the payload over and over, up to this length."""
    if length is None or not payload:
        return payload
    return (payload * (length // len(payload) + 1))[:length]


class Noted:
    """What passed in one case: messages in order, and the payload of frames that belong to none (RFC 6455 §5.4)."""

    def __init__(self):
        self.messages_sent, self.messages_received = [], []
        self.controls_sent, self.controls_received = [], []
        self.unfinished = None
        self.has_sent_close = False

    def frame_sent(self, opcode, payload, fin):
        if opcode not in KINDS:
            if opcode == CLOSE:
                self.has_sent_close = True
            else:
                self.controls_sent.append([opcode, base64.b64encode(payload).decode()])
            return
        if opcode != 0:
            self.cut()
        if self.unfinished is None:
            self.unfinished = (opcode, [])
        self.unfinished[1].append(payload)
        if fin:
            self.end(whole=True)

    def cut(self):
        """A message that is unfinished stays so."""
        if self.unfinished is not None:
            self.end(whole=False)

    def end(self, whole):
        opcode, parts = self.unfinished
        self.unfinished = None
        self.messages_sent.append(described(opcode, b"".join(parts), whole))


def described(opcode, payload, whole=True):
    return {
        "opcode": KINDS[opcode],
        "length": len(payload),
        "digest": hashlib.sha1(payload).hexdigest(),
        "whole": whole,
    }


class Protocol:
    """The suite's protocol object as a case sees it, with what is sent noted."""

    def __init__(self, protocol, noted):
        vars(self)["_protocol"] = protocol
        vars(self)["_noted"] = noted

    def __getattr__(self, name):
        return getattr(self._protocol, name)

    def __setattr__(self, name, value):
        setattr(self._protocol, name, value)

    def sendFrame(self, opcode, payload="", fin=True, payload_len=None, **others):
        # Repeated here: the suite's log has the length before that.
        payload = repeated(octets(payload, is_text=opcode in (0, 1)), payload_len)
        self._noted.frame_sent(opcode, payload, fin)
        self._protocol.sendFrame(opcode=opcode, payload=payload, fin=fin, **others)

    def sendMessage(self, payload, isBinary=False, **others):
        self._noted.frame_sent(2 if isBinary else 1, octets(payload, is_text=not isBinary), True)
        self._protocol.sendMessage(payload, isBinary, **others)

    def sendMessageFrameData(self, payload):
        # Of a text message in one frame.
        self._noted.frame_sent(1 if self._noted.unfinished is None else 0, octets(payload), False)
        return self._protocol.sendMessageFrameData(payload)

    def endMessage(self):
        self._noted.end(whole=True)
        self._protocol.endMessage()


HANDLERS = ("__init__", "onMessage", "onPing", "onPong")


def note(case_class, handlers, all_noted):
    """Makes the cases of this class, which has these handlers, note what passes."""
    case_id = case_class.__name__.removeprefix("Case").replace("_", ".")

    def __init__(case, protocol):
        noted = all_noted[case_id] = Noted()
        handlers["__init__"](case, Protocol(protocol, noted))

    def onMessage(case, message, binary):
        payload = octets(message, is_text=not binary)
        all_noted[case_id].messages_received.append(described(2 if binary else 1, payload))
        # These take bytes, which the suite hands out for compressed messages only; a server may send others.
        handlers["onMessage"](case, payload if hasattr(case, "TESTDATA") else message, binary)

    def control(name, opcode):
        def handle(case, payload):
            encoded = base64.b64encode(octets(payload)).decode()
            all_noted[case_id].controls_received.append([opcode, encoded])
            handlers[name](case, payload)

        return handle

    case_class.__init__ = __init__
    case_class.onMessage = onMessage
    case_class.onPing = control("onPing", 9)
    case_class.onPong = control("onPong", 10)


def report(result, noted):
    """What is told of a case."""
    noted.cut()
    log = result.wirelog
    return {
        "id": result.case_id,
        "path": result.http_request.split(" ")[1] if result.http_request else None,
        "behavior": result.behavior.value,
        "behavior_close": result.behavior_close.value,
        "result": result.result,
        "result_close": result.result_close,
        "must_be_refused": bool(result.expected_close) and not result.expected_close["closedByMe"],
        "closed_by_suite": result.closed_by_me or noted.has_sent_close,
        "answers_close": not result.closed_by_me,
        "remote_close_code": result.remote_close_code,
        "remote_close_reason": result.remote_close_reason,
        "frames_sent": [
            {"opcode": e[2], "fin": e[3], "rsv": e[4], "length": e[1][0], "mask": e[5]} for e in log if e[0] == "TF"
        ],
        "frames_received": [
            {"opcode": e[2], "fin": e[3], "rsv": e[4], "length": e[1][0], "mask": e[6]} for e in log if e[0] == "RF"
        ],
        "frame_counts_sent": result.tx_frame_stats,
        "frame_counts_received": result.rx_frame_stats,
        "messages_sent": noted.messages_sent,
        "messages_received": noted.messages_received,
        "controls_sent": noted.controls_sent,
        "controls_received": noted.controls_received,
    }


def is_chosen(case_id, pattern):
    """Whether the pattern has this case: part by part, the parts that it does not name being any."""
    parts, wanted = case_id.split("."), pattern.split(".")
    return len(wanted) <= len(parts) and all(map(fnmatch.fnmatchcase, parts, wanted))


async def every_case():
    """The names of all cases, in their order, which noting has been arranged for."""
    build_index = kosoku._caseindex.build_index
    names, all_noted = [], {}

    def build_noting_index(*arguments):
        cases, groups = build_index(*arguments)
        # All before any is changed, since classes inherit from one another.
        handlers = [{name: getattr(case_class, name) for name in HANDLERS} for case_class in cases.values()]
        for case_class, its_handlers in zip(cases.values(), handlers):
            note(case_class, its_handlers, all_noted)
        names.extend(cases)
        return cases, groups

    kosoku._caseindex.build_index = build_noting_index
    try:
        await kosoku.run_fuzzingclient("ws://127.0.0.1:9/", ["none"])
    except ValueError:
        pass  # There is no such case, as it says once it has made its index.
    return names, all_noted


async def drive(url, names):
    """As the client of the server at this address. Gives each result as it comes."""
    for name in names:
        try:
            # A connection a case, whose path names the case.
            results = await kosoku.run_fuzzingclient(f"{url}?case={name}", [name])
        except kosoku.FailureError as failure:
            results = failure.results
        yield results[-1]


async def serve(address, names):
    """As the server of one client, which asks how many cases there are and names each by its number in its path."""
    host, port = address.rsplit(":", 1)
    async with kosoku.run_fuzzingserver(names, host=host, port=int(port)) as server:
        print("serving", file=sys.stderr, flush=True)
        try:
            results = await server.get_result()
        except kosoku.FailureError as failure:
            results = failure.results
    for result in results:
        yield result


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", help="of the server to run the cases against")
    parser.add_argument("--listen", help="instead: ADDRESS:PORT for a client that the cases are run against")
    parser.add_argument("--reports", required=True)
    parser.add_argument("cases", nargs="+")
    arguments = parser.parse_args()
    every, all_noted = await every_case()
    names = [name for name in every if any(is_chosen(name, pattern) for pattern in arguments.cases)]
    running = serve(arguments.listen, names) if arguments.listen else drive(arguments.url, names)
    results = []
    if names:
        async for result in running:
            results.append(result)
            print(json.dumps(report(result, all_noted.pop(result.case_id, Noted()))), flush=True)
    kosoku._report.write_reports(results, arguments.reports)


if __name__ == "__main__":
    # The suite's compiled part keeps threads. One that still asks for the interpreter while that is torn down aborts the
    # process after all is done, so it ends without being torn down.
    faulthandler.enable()
    asyncio.run(main())
    sys.stdout.flush()
    os._exit(0)
