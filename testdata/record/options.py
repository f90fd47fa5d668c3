"""Writes ../captures/options.pcap: segments that seldom come by themselves, as no kernel sent them.

TCP options of every kind that tcpdump names, sequence numbers that wrap, urgent data, resets with and without ACK,
connections whose beginning is missing, both IP versions. No checksums. Usage: options.py.
"""

import os
import socket
import struct

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 7272)
packets = []


def tcp(source, destination, seq, ack, flags, options=b"", payload=b"", window=512, urgent=0):
    options += bytes(-len(options) % 4)
    header = struct.pack(
        "!HHIIBBHHH", source, destination, seq % 2**32, ack % 2**32, (5 + len(options) // 4) << 4, flags, window, 0, urgent
    )
    return header + options + payload


def ipv4(source, destination, *segment, **more):
    segment = tcp(source[1], destination[1], *segment, **more)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, 6, 0)
    packets.append(header + socket.inet_aton(source[0]) + socket.inet_aton(destination[0]) + segment)


def ipv6(source, destination, *segment, **more):
    segment = tcp(source[1], destination[1], *segment, **more)
    header = struct.pack("!IHBB", 6 << 28, len(segment), 6, 64)
    addresses = socket.inet_pton(socket.AF_INET6, source[0]) + socket.inet_pton(socket.AF_INET6, destination[0])
    packets.append(header + addresses + segment)


def option(kind, data=b""):
    return bytes([kind, 2 + len(data)]) + data


def timestamps(value, echo):
    return option(8, struct.pack("!II", value, echo))


def conversation(send, client, server, client_isn, server_isn):
    opening = option(2, struct.pack("!H", 1460)) + option(4) + timestamps(7, 0) + b"\x01" + option(3, b"\x07")
    send(client, server, client_isn, 0, SYN | ECE | CWR, options=opening, window=65495)
    send(server, client, server_isn, client_isn + 1, SYN | ACK | ECE, options=opening, window=65483)
    send(client, server, client_isn + 1, server_isn + 1, ACK, options=b"\x01\x01" + timestamps(8, 7))
    send(client, server, client_isn + 1, server_isn + 1, PSH | ACK, payload=b"GET / HTTP/1.1\r\n\ttab\nline\x00\x1b\xff end")
    holes = struct.pack("!IIII", *(at % 2**32 for at in (client_isn + 60, client_isn + 70, client_isn + 80, client_isn + 90)))
    send(server, client, server_isn + 1, client_isn + 37, ACK, options=b"\x01\x01" + option(5, holes))
    holes = struct.pack("!II", (server_isn + 500) % 2**32, (server_isn + 600) % 2**32)
    send(client, server, client_isn + 37, server_isn + 1, ACK, options=b"\x01\x01" + option(5, holes))
    send(client, server, client_isn + 37, server_isn + 1, PSH | ACK | URG, payload=b"x" * 300, urgent=5)
    send(server, client, server_isn + 1, client_isn + 337, ACK, window=0)
    send(server, client, server_isn + 1, client_isn + 337, FIN | PSH | ACK, payload=b"bye")
    send(client, server, client_isn + 337, server_isn + 5, RST | ACK, window=0)
    send(client, server, client_isn + 337, 0, RST, window=0)


conversation(ipv4, CLIENT, SERVER, 1000, 5000)
# Both directions wrap, and the client has the lower port.
conversation(ipv4, ("10.0.0.1", 1024), SERVER, 2**32 - 50, 2**32 - 2)
conversation(ipv6, ("2001:db8::1", 50000), ("2001:db8::2", 7272), 2**31 - 20, 2**32 - 1)
# Equal ports: the addresses decide which end is which.
conversation(ipv4, ("10.0.0.9", 7272), SERVER, 10, 20)
for kind in (
    option(34),
    option(34, b"\x01\x02\x03\x04\x05\x06\x07\x08"),
    option(254, b"\xf9\x89"),
    option(254, b"\xf9\x89\x01\x02\x03\x04"),
    option(253, b"\x01\x02"),
    option(29, b"\x01\x02\x03\x04"),
    option(99, b"\x01\x02"),
    option(99),
    option(6, b"\x00\x00\x00\x01") + option(7, b"\x00\x00\x00\x02"),
    option(11, b"\x00\x00\x00\x01") + option(12, b"\x00\x00\x00\x02"),
    option(5, b"\x01\x02\x03"),
    bytes([3, 60]),
):
    ipv4(CLIENT, SERVER, 1337, 5005, ACK, options=kind)
ipv4(CLIENT, SERVER, 1337, 5005, 0)
# Connections whose beginning nobody saw.
ipv4(("10.0.0.3", 41000), SERVER, 77, 88, ACK)
ipv4(("10.0.0.3", 41000), SERVER, 77, 88, PSH | ACK, payload=b"abc")
ipv4(SERVER, ("10.0.0.3", 41000), 88, 80, PSH | ACK, payload=b"defg")
ipv6(("2001:db8::2", 7272), ("2001:db8::3", 42000), 88, 80, PSH | ACK, payload=b"hi")

path = os.path.join(os.path.dirname(__file__), "../captures/options.pcap")
with open(path, "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101))
    for number, packet in enumerate(packets):
        file.write(struct.pack("<IIII", 1704110400, number * 1000, len(packet), len(packet)) + packet)
