"""DCMTK's two senders: a wave of files in one run, and what became of each by the sender's own log."""

import re
import subprocess
import tempfile
from pathlib import Path

# What storescu says when it takes a file in hand, and what dcmsend does.
BEGINS = re.compile(r"^\w: (?:Sending file|sending SOP instance from file): (.*)$")
# What either says of a file that it leaves out before or while it sends.
LEFT_OUT = re.compile(
    r"^E: (?:cannot add DICOM file to the transfer list|cannot send SOP instance from file"
    r"|Bad DICOM file|No SOP Class or Instance UID in file): ([^:]*)(?:: (.*))?$"
)
STATUS = re.compile(r"^D: DIMSE Status +: 0x([0-9a-f]{4})")
COMMENT = re.compile(r"\(0000,0902\) LO \[(.*?)\]")
ANNOUNCED = re.compile(r"^D: Affected SOP Instance UID +: (\S+)")


def profile(kinds):
    """storescu's configuration: a presentation context for each pair of SOP class and transfer syntax, so
    that every file can go as it is."""
    syntaxes = sorted({syntax for _, syntax in kinds})
    lines = ["[[TransferSyntaxes]]"]
    for number, syntax in enumerate(syntaxes):
        lines += [f"[Syntax{number}]", f"TransferSyntax1 = {syntax}"]
    lines += ["[[PresentationContexts]]", "[Contexts]"]
    for number, (sop_class, syntax) in enumerate(sorted(kinds), 1):
        lines.append(f"PresentationContext{number} = {sop_class}\\Syntax{syntaxes.index(syntax)}")
    return "\n".join([*lines, "[[Profiles]]", "[Wave]", "PresentationContexts = Contexts", ""])


def send(sender, port, title, paths, kinds):
    """Sends the files; answers for each path its status (None when it did not go), the words about it and
    the SOP Instance UID that it was announced with."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sender, "-d", "--no-halt", "-aec", title]
        if sender == "storescu":
            configuration = Path(directory) / "storescu.cfg"
            configuration.write_text(profile(kinds))
            command += ["-xf", str(configuration), "Wave"]
        command += ["127.0.0.1", str(port), *map(str, paths)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    log = done.stdout.decode("utf-8", "replace")
    # dcmsend ends with an error also when there was nothing that it could send.
    assert done.returncode == 0 or sender == "dcmsend", log[-2000:]
    return outcomes(log, map(str, paths))


def outcomes(log, paths):
    found = {path: [None, None, None] for path in paths}
    at = None
    for line in log.splitlines():
        if begins := BEGINS.match(line):
            at = found.get(begins[1])
        elif (left_out := LEFT_OUT.match(line)) and left_out[1] in found:
            found[left_out[1]][1] = left_out[2] or line[3:].split(":")[0]
        elif at is None:
            continue
        elif announced := ANNOUNCED.match(line):
            at[2] = announced[1]
        elif status := STATUS.match(line):
            at[0], at[1] = int(status[1], 16), ""
        elif comment := COMMENT.search(line):
            at[1] = comment[1]
        elif line.startswith("E: ") and at[1] is None:
            at[1] = line[3:]
    return {path: (status, words or "", uid) for path, (status, words, uid) in found.items()}
