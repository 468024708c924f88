"""Breaks HTTP in all the ways that a socket allows: what is wrong is refused or cut off, and nobody else waits.

    sockets.py HTTP_URL

Each case ends with an answer, or with the connection closed, within a bound of time and of bytes; behind each,
another client is answered as ever. The exit code is 1 when a case did not.
"""

import gzip
import os
import re
import socket
import struct
import sys
import time
from urllib.parse import urlsplit

from webchecks import BOUNDARY

SECONDS = 90
# More than any server keeps of a header or of a multipart's part header before it gives up.
ENDLESS = 64 * 1024 * 1024
DICOMWEB = "/dicom-web"
STOW = (
    f"POST {DICOMWEB}/studies HTTP/1.1\r\nHost: x\r\nAccept: application/dicom+json\r\n"
    f'Content-Type: multipart/related; type="application/dicom"; boundary={BOUNDARY}\r\n'
).encode()
JSON_STOW = STOW.replace(b'type="application/dicom"', b'type="application/dicom+json"')
GET = f"GET {DICOMWEB}/studies?limit=1 HTTP/1.1\r\nHost: x\r\nAccept: application/dicom+json\r\n".encode()
DELIMITER = f"--{BOUNDARY}\r\n".encode()
END = f"--{BOUNDARY}--\r\n".encode()


class Peer:
    def __init__(self, netloc):
        host, port = netloc.rsplit(":", 1)
        self.address = (host, int(port))

    def connect(self):
        connection = socket.create_connection(self.address, timeout=SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def say(self, *pieces, shut=False):
        """Sends, and answers all that comes until the server closes or has answered; never more than 16 MiB."""
        with self.connect() as connection:
            try:
                for piece in pieces:
                    connection.sendall(piece)
                if shut:
                    connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # Closed by the server; what it said before can be read still.
            return read_answer(connection)

    def flood(self, head, piece, tail=b""):
        """Sends `piece` again and again: the server must answer or close before all of ENDLESS is taken."""
        sent = 0
        with self.connect() as connection:
            try:
                connection.sendall(head)
                while sent < ENDLESS:
                    connection.sendall(piece)
                    sent += len(piece)
                connection.sendall(tail)
            except (BrokenPipeError, ConnectionResetError):
                pass
            return read_answer(connection), sent


def read_answer(connection):
    """What comes until the first answer is whole, or the connection's end."""
    came = b""
    try:
        while len(came) < 16 << 20:
            piece = connection.recv(65536)
            if not piece:
                break
            came += piece
            head, separator, content = came.partition(b"\r\n\r\n")
            if separator:
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                if (
                    length
                    and len(content) >= int(length[1])
                    or b"chunked" in head.lower()
                    and content.endswith(b"0\r\n\r\n")
                ):
                    break
                if re.match(rb"HTTP/1\.[01] (204|304)", head):
                    break
    except ConnectionResetError:
        pass
    return came


def status(came):
    """Of the first answer; 0 where there is none."""
    found = re.match(rb"HTTP/1\.[01] (\d{3})[ \r]", came)
    return int(found[1]) if found else 0


def refused(came):
    """Closed without a word, or 4xx, or a 5xx that is meant."""
    found = status(came)
    assert found == 0 and not came or 400 <= found < 500 or found in (501, 505), (
        f"answered {found}: {came[:60]!r}"
    )


def chunk(content):
    return b"%x\r\n%s\r\n" % (len(content), content)


# Each case is a function of the peer; its name is what it shows.


def broken_chunk_sizes(peer):
    head = STOW + b"Transfer-Encoding: chunked\r\n\r\n"
    for size in (
        b"zz",
        b"-1",
        b"",
        b" 5",
        b"0x5",
        b"FFFFFFFFFFFFFFFFF",
        b"7FFFFFFFFFFFFFFF",
        b"5;" + b"x" * 70_000,
        b"\xff",
    ):
        refused(peer.say(head, size + b"\r\nabcde\r\n0\r\n\r\n", shut=True))


def a_chunk_without_its_end(peer):
    head = STOW + b"Transfer-Encoding: chunked\r\n\r\n"
    refused(peer.say(head, b"5\r\nabcdefgh\r\n0\r\n\r\n", shut=True))
    refused(peer.say(head, chunk(DELIMITER), b"400\r\nonly some", shut=True))


def endless_trailers(peer):
    came, sent = peer.flood(STOW + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: y\r\n" * 1000)
    assert sent < ENDLESS, "all was taken"
    refused(came)


def endless_headers(peer):
    came, sent = peer.flood(GET, b"X-Header: y\r\n" * 1000)
    assert sent < ENDLESS, "all was taken"
    refused(came)


def one_endless_header(peer):
    came, sent = peer.flood(GET + b"X-Header: ", b"y" * 65536)
    assert sent < ENDLESS, "all was taken"
    refused(came)


def an_endless_request_line(peer):
    came, sent = peer.flood(b"GET /", b"y" * 65536)
    assert sent < ENDLESS, "all was taken"
    refused(came)


def thousands_of_headers(peer):
    refused(peer.say(GET + b"".join(b"X-%d: y\r\n" % at for at in range(10_000)) + b"\r\n"))


def a_huge_accept(peer):
    for value in (
        b"a/b," * 12_000,
        b"a/b;" * 12_000,
        b'a/b; c="' + b"\\" * 40_000,
        b"," * 50_000,
        b"*/*;q=" + b"0" * 50_000,
    ):
        came = peer.say(GET.replace(b"application/dicom+json", value) + b"\r\n")
        assert status(came) in (0, 200, 204, 400, 406, 431), status(came)


def body_of(peer, head, pieces):
    return peer.say(
        head + b"Transfer-Encoding: chunked\r\n\r\n", *(chunk(piece) for piece in pieces), b"0\r\n\r\n"
    )


def thousands_of_parts(peer):
    part = DELIMITER + b"Content-Type: application/dicom\r\n\r\nno DICOM\r\n"
    came = body_of(peer, STOW, [part * 1000] * 30 + [END])
    assert status(came) in (200, 202, 400, 409, 413), status(came)


def parts_without_headers(peer):
    came = body_of(peer, STOW, [(DELIMITER + b"\r\n\r\n") * 3000, END])
    assert status(came) in (200, 202, 400, 409, 413), status(came)


def a_multipart_without_end(peer):
    """An instance may be as long as it likes; what is no instance may not."""
    part = DELIMITER + b"Content-Type: application/dicom\r\n\r\n"
    refused(body_of(peer, STOW, [part, bytes(132)]))
    head = STOW + b"Transfer-Encoding: chunked\r\n\r\n"
    came, _ = peer.flood(head + chunk(part), chunk(bytes(65536)), b"0\r\n\r\n")
    refused(came)


def a_multipart_that_never_begins(peer):
    came, _ = peer.flood(
        STOW + b"Transfer-Encoding: chunked\r\n\r\n", chunk(b"preamble" * 8192), b"0\r\n\r\n"
    )
    refused(came)


def an_endless_part_header(peer):
    came, sent = peer.flood(
        STOW + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(DELIMITER + b"X: "), chunk(b"y" * 65536)
    )
    assert sent < ENDLESS, "all was taken"
    refused(came)


def endless_metadata(peer):
    """JSON is kept while it is read: it has a bound."""
    part = (
        DELIMITER
        + b'Content-Type: application/dicom+json\r\n\r\n[{"00100010":{"vr":"PN","Value":[{"Alphabetic":"'
    )
    came, sent = peer.flood(
        JSON_STOW + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(part), chunk(b"y" * 65536)
    )
    refused(came)


def deep_json(peer):
    for text in (
        b"[" * 1_000_000,
        b'[{"00081140":{"vr":"SQ","Value":[{' + b'"00081140":{"vr":"SQ","Value":[{' * 100_000,
    ):
        part = DELIMITER + b"Content-Type: application/dicom+json\r\n\r\n" + text + b"\r\n"
        refused(body_of(peer, JSON_STOW, [part, END]))


def deep_sequences(peer):
    """20,000 levels in a data set of Implicit VR."""
    item = b"\x08\x00\x40\x11\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    meta = b"\x02\x00\x10\x00UI\x12\x001.2.840.10008.1.2\x00"
    part10 = (
        bytes(128) + b"DICM\x02\x00\x00\x00UL\x04\x00" + struct.pack("<I", len(meta)) + meta + item * 20_000
    )
    refused(
        body_of(peer, STOW, [DELIMITER + b"Content-Type: application/dicom\r\n\r\n" + part10 + b"\r\n", END])
    )


def a_length_that_lies(peer):
    """An element of 4 GB in a file of some bytes."""
    meta = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"
    part10 = bytes(128) + b"DICM\x02\x00\x00\x00UL\x04\x00" + struct.pack("<I", len(meta)) + meta
    part10 += b"\x08\x00\x18\x00UN\0\0\xf0\xff\xff\xff1.2.3"
    refused(
        body_of(peer, STOW, [DELIMITER + b"Content-Type: application/dicom\r\n\r\n" + part10 + b"\r\n", END])
    )


def percent_signs_and_what_is_no_uri(peer):
    for path in (
        b"%",
        b"%zz",
        b"%f",
        b"%00",
        b"%ff%fe",
        b"%2e%2e/%2e%2e/etc/passwd",
        b"../../../etc/passwd",
        b"\xff",
        b"\\..\\",
        b"#x",
        b"%u0041",
        b"?%",
        b"?%zz=%",
        b"?limit=%00",
        b'"',
        b"<>",
        b"a b",
        b"\x00",
        b"[",
        b"//",
        b"%25252e",
        b"?" + b"&" * 9000,
    ):
        came = peer.say(b"GET /dicom-web/studies/" + path + b" HTTP/1.1\r\nHost: x\r\n\r\n", shut=True)
        assert status(came) in (0, 200, 204, 400, 404, 405, 406, 414, 431), f"{path!r}: {status(came)}"
        assert b"root:" not in came


def paths_that_leave_the_page(peer):
    for path in (
        b"/../../../../etc/passwd",
        b"/..%2f..%2f..%2fetc/passwd",
        b"/%2e%2e/%2e%2e/etc/passwd",
        b"/assets/../../../etc/passwd",
        b"/....//....//etc/passwd",
        b"//etc/passwd",
        b"/%5c..%5c..%5cetc%5cpasswd",
        b"/./././etc/passwd",
    ):
        came = peer.say(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n", shut=True)
        assert b"root:" not in came, path


def http_1_0(peer):
    came = peer.say(b"GET /dicom-web/studies?limit=1 HTTP/1.0\r\nAccept: application/dicom+json\r\n\r\n")
    assert status(came) in (200, 204), status(came)
    assert b"chunked" not in came.partition(b"\r\n\r\n")[0].lower(), "HTTP/1.0 knows no chunks"


def other_versions(peer):
    peer.say(b"GET /\r\n\r\n", shut=True)
    for version in (b"HTTP/9.9", b"HTTP/1.2", b"HTTP/", b"FTP/1.1", b"HTTP/1.1x"):
        came = peer.say(b"GET /healthz " + version + b"\r\nHost: x\r\n\r\n", shut=True)
        assert status(came) in (0, 200, 400, 505), status(came)


def http_2_that_breaks(peer):
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    frame = lambda kind, flags, stream, content: (
        struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + content
    )  # noqa: E731
    for frames in (
        b"garbage" * 100,
        frame(4, 0, 0, b"") + frame(1, 4, 1, b"\xff" * 50),
        frame(4, 0, 0, b"") + frame(0, 0, 5, b"data of no stream"),
        frame(4, 0, 0, b"") + struct.pack(">I", 0xFFFFFF)[1:] + b"\0\0\0\0\0\1",
        frame(4, 0, 0, b"") + frame(9, 0, 1, b"continued") * 100,
        frame(4, 0, 0, b"")
        + b"".join(
            frame(1, 5, at, b"\x82\x86\x84\x41\x01x") + frame(3, 0, at, b"\0\0\0\x08")
            for at in range(1, 4001, 2)
        ),
    ):
        peer.say(preface, frames, shut=True)


def a_tls_client(peer):
    peer.say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500), shut=True)


def noise(peer):
    for length in (1, 10, 1000, 100_000):
        refused(peer.say(os.urandom(length), shut=True))


def fifty_requests_at_once_are_answered_in_turn(peer):
    with peer.connect() as connection:
        connection.sendall(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 49
            + b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        came = b""
        while piece := connection.recv(65536):
            came += piece
    count = len(re.findall(rb"HTTP/1\.1 200", came))
    assert count == 50, f"{count} of 50 are answered"


def an_error_in_the_midst_of_a_pipeline(peer):
    came = peer.say(GET + b"\r\n" + b"BROKEN\r\n\r\n" + GET + b"\r\n")
    assert status(came) in (200, 204), status(came)


def two_lengths(peer):
    refused(peer.say(STOW + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", shut=True))
    for length in (b"-1", b"x", b"1e3", b"99999999999999999999999", b"5, 6", b"+5", b"0x5"):
        refused(peer.say(STOW + b"Content-Length: " + length + b"\r\n\r\nabcdef", shut=True))


def a_length_and_chunks(peer):
    """One of the two hides a second request: it must not be carried out."""
    hidden = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with peer.connect() as connection:
        connection.sendall(
            STOW + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden
        )
        connection.shutdown(socket.SHUT_WR)
        came = b""
        try:
            while piece := connection.recv(65536):
                came += piece
        except ConnectionResetError:
            pass
    assert 400 <= (status(came) or 400) < 500, status(came)
    for coding in (b"gzip, chunked", b"identity", b"chunked, identity", b"x", b"chunked, chunked"):
        refused(
            peer.say(STOW + b"Transfer-Encoding: " + coding + b"\r\n\r\n5\r\nabcde\r\n0\r\n\r\n", shut=True)
        )


def no_host_or_headers_that_are_none(peer):
    for head in (
        b"Host : x\r\n",
        b"Host: x\r\n folded: y\r\n",
        b"Host: x\r\nNo colon\r\n",
        b"Host: x\r\n: no name\r\n",
        b"Host: x\r\nX: a\x00b\r\n",
        b"Host: x\r\nX\x00: a\r\n",
        b"Host: x\r\nX: a\rb\r\n",
        b"Host: x\r\nHost: y\r\n",
        b"Host: \xff\r\n",
        b"",
        b"Host: x\r\nContent-Type: \xff\r\n",
    ):
        came = peer.say(b"GET /dicom-web/studies?limit=1 HTTP/1.1\r\n" + head + b"\r\n", shut=True)
        assert status(came) in (0, 200, 204, 400, 404), f"{head!r}: {status(came)}"


def other_forms_of_target_and_method(peer):
    for line in (
        b"OPTIONS *",
        b"CONNECT x:80",
        b"GET http://x/healthz",
        b"get /healthz",
        b"FOO /healthz",
        b"G\xffT /",
        b"GET",
        b"GET  /healthz",
        b"M" * 5000 + b" /",
        b"TRACE /",
        b"PRI *",
    ):
        came = peer.say(line + b" HTTP/1.1\r\nHost: x\r\n\r\n", shut=True)
        found = status(came)
        assert found < 500 or found in (501, 505), f"{line!r}: {found}"


def a_client_that_waits_for_100(peer):
    with peer.connect() as connection:
        connection.sendall(STOW + b"Expect: 100-continue\r\nContent-Length: 10\r\n\r\n")
        came = connection.recv(65536)
        # It may also be refused at once (RFC 9110 10.1.1).
        assert status(came) in (100, 400, 417), status(came)
        if status(came) == 100:
            connection.sendall(b"0123456789")
            came = read_answer(connection)
            assert status(came) in (400, 409), status(came)
    came = peer.say(GET + b"Expect: something-else\r\n\r\n")
    assert status(came) in (200, 204, 417), status(came)


def an_end_in_the_midst_of_a_header_or_a_body(peer):
    part = DELIMITER + b"Content-Type: application/dicom\r\n\r\n" + bytes(128) + b"DICM" + bytes(1000)
    for pieces in (
        [b""],
        [b"G"],
        [GET[:30]],
        [GET],
        [STOW + b"Content-Length: 100000\r\n\r\n" + part],
        [STOW + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(part)],
        [STOW + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(part)[:-300]],
    ):
        # Both kinds of end: a FIN, and a RST.
        for linger in (False, True):
            with peer.connect() as connection:
                for piece in pieces:
                    connection.sendall(piece)
                if linger:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def a_reader_that_leaves(peer):
    for _ in range(20):
        with peer.connect() as connection:
            connection.sendall(
                b"GET /dicom-web/instances?includefield=all HTTP/1.1\r\nHost: x\r\nAccept: application/dicom+json\r\n\r\n"
            )
            connection.recv(10)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def a_half_closed_client_is_answered(peer):
    came = peer.say(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", shut=True)
    assert status(came) in (0, 200), status(came)


def a_compressed_bomb(peer):
    body = gzip.compress(bytes(200_000_000), 9)
    came = peer.say(STOW + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body), body)
    refused(came)


def three_hundred_that_say_nothing(peer):
    """Others are answered while they are there."""
    held = [peer.connect() for _ in range(300)]
    for at, connection in enumerate(held):
        connection.sendall([b"", b"G", GET, STOW + b"Content-Length: 1000\r\n\r\n--"][at % 4])
    answered(peer)
    for connection in held:
        connection.close()


def answered(peer):
    came = peer.say(
        b"GET /dicom-web/studies?limit=1 HTTP/1.1\r\nHost: x\r\nAccept: application/dicom+json\r\nConnection: close\r\n\r\n"
    )
    assert status(came) in (200, 204), f"another client is answered {status(came)}: {came[:80]!r}"


def main():
    peer = Peer(urlsplit(sys.argv[1]).netloc)
    only = sys.argv[2:]
    answered(peer)
    bad = 0
    here = dict(globals())
    cases = [
        f
        for f in here.values()
        if getattr(f, "__code__", None)
        and f.__code__.co_varnames[:1] == ("peer",)
        and f.__code__.co_argcount == 1
    ]
    for case in cases:
        if case is answered or only and case.__name__ not in only:
            continue
        begin = time.monotonic()
        try:
            case(peer)
            answered(peer)
            outcome = "ok"
        except Exception as error:  # noqa: BLE001 each case is told
            outcome = f"FAILED {type(error).__name__}: {error}"
            bad += 1
        print(f"{case.__name__.replace('_', ' ')}: {outcome} ({time.monotonic() - begin:.1f} s)", flush=True)
    print(f"{len(cases) - 1} cases, {bad} failed")
    sys.exit(bool(bad))


main()
