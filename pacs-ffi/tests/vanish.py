"""A peer that asks and is gone before it is answered: associates, sends many C-ECHO requests at once, and closes.

    python3 vanish.py PORT CALLED CALLING

A process that doesn't ignore SIGPIPE, as a program in C, must live on."""

import socket
import struct
import sys


def item(kind, value):
    return struct.pack(">BBH", kind, 0, len(value)) + value


def received(connection, length):
    value = b""
    while len(value) < length:
        piece = connection.recv(length - len(value))
        if not piece:
            raise SystemExit("the association was not accepted")
        value += piece
    return value


def element(number, value):
    return struct.pack("<HHI", 0, number, len(value)) + value


port, called, calling = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3].encode()
verification = b"1.2.840.10008.1.1"
context = struct.pack(">BBBB", 1, 0, 0, 0) + item(0x30, verification) + item(0x40, b"1.2.840.10008.1.2")
user = item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3")
# PS3.8 9.3.2
request = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16), calling.ljust(16))
request += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context) + item(0x50, user)
# PS3.7 9.3.5.1
echoes = b""
for number in range(1, 201):
    command = element(0x0002, verification + b"\0") + element(0x0100, struct.pack("<H", 0x30))
    command += element(0x0110, struct.pack("<H", number)) + element(0x0800, struct.pack("<H", 0x101))
    command = element(0x0000, struct.pack("<I", len(command))) + command
    value = struct.pack(">IBB", len(command) + 2, 1, 3) + command
    echoes += struct.pack(">BBI", 4, 0, len(value)) + value
for _ in range(20):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(struct.pack(">BBI", 1, 0, len(request)) + request)
        kind, length = struct.unpack(">BxI", received(connection, 6))
        if kind != 2:
            raise SystemExit(f"answered by a PDU of type {kind}")
        received(connection, length)
        connection.sendall(echoes)
    # The first answer meets a closed connection, and those that follow must fail by themselves.
