"""Measures reading and screening of mails: the rate of one core, and the memory of a large one."""

import base64
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.children import ROOT
from bench.report import Report
from bench.stage import Stage
from worker.channels.email.received import open_mail
from worker.domain.routing import ChannelPolicy
from worker.domain.ways_out import MailDelivery

FOLDER = ROOT / "tests" / "fixtures" / "mails"
OURS = ChannelPolicy(name="email", delivery=MailDelivery(addresses=("support@shop.example",)))
LARGE_MB = 25
_READ = """
import sys
from worker.channels.email.received import open_mail
from worker.domain.routing import ChannelPolicy

with open(sys.argv[1], "rb") as file:
    open_mail(file.read(), ChannelPolicy(name="email")).judged()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
"""Prints the greatest RSS in kB. `getrusage` would include this process, from before the exec."""
HEAD = "From: ada@example.org\nTo: support@shop.example\nSubject: Re: Order\nIn-Reply-To: <1@b>\n"


def measure(_: Stage, report: Report, *, rounds: int) -> None:
    """Read what people write, again and again; then one large mail in a process of its own."""
    parent = (FOLDER / "parent.txt").read_text()
    mails = [*_small(), _thread(parent)] * 3
    rates = []
    for _round in range(rounds):
        began = time.process_time()
        for raw in mails:
            open_mail(raw, OURS).judged(parent)
        rates.append(len(mails) / (time.process_time() - began))
    report.add("mails_rate", rates, f"{len(mails)} mails a round")
    with TemporaryDirectory() as folder:
        file = Path(folder, "large.eml")
        file.write_bytes(_large())
        command = [sys.executable, "-c", _READ, file]
        read = [subprocess.run(command, cwd=ROOT, check=True, capture_output=True) for _ in "12"]
    report.add("mail_25mb", [float(one.stdout) / 1024 for one in read])


def _small() -> list[bytes]:
    lines = (line.split("\t") for line in (FOLDER / "expected.tsv").read_text().splitlines())
    return [(FOLDER / f"{name}.eml").read_bytes() for name, tier, *_ in lines if tier == "-"]


def _thread(parent: str) -> bytes:
    """Return a reply that quotes a long thread, as text and as 60 KB of HTML."""
    quote, html = "", ""
    for _ in range(10):
        quote = "\n".join(f"> {line}" for line in f"{parent}{quote}".splitlines())
        cited = parent.replace("\n", "<br>")
        style = "x" * 5000
        html = f"<blockquote style={style}>{cited}{html}</blockquote>"
    return (
        f"{HEAD}Content-Type: multipart/alternative; boundary=b\n\n"
        f"--b\nContent-Type: text/plain\n\nThanks. When?\n\n{quote}\n"
        f"--b\nContent-Type: text/html\n\n<p>Thanks. When?</p>{html}\n--b--\n"
    ).encode()


def _large() -> bytes:
    picture = base64.encodebytes(b"\xff\xd8" * (LARGE_MB * 1_000_000 * 37 // 100))
    head = (
        f"{HEAD}Content-Type: multipart/mixed; boundary=b\n\n"
        "--b\nContent-Type: text/plain\n\nWhat is this?\n"
        "--b\nContent-Type: image/jpeg; name=a.jpg\nContent-Transfer-Encoding: base64\n\n"
    )
    return b"".join((head.encode(), picture, b"--b--\n"))
