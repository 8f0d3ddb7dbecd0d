"""The whole service for mail as processes: a mailbox's poller, workers, IMAP in and SMTP out."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage

from tests.support.cli import invoke
from tests.support.databases import fresh_database
from tests.support.dovecot import Account, Dovecot
from tests.support.fleet import Ground, RealWorker, agents_file, running_fleet
from tests.support.forked import ForkedProcess
from tests.support.mails import AGENTS
from tests.support.processes import eventually, open_folder
from tests.support.smtp_server import Mailbox, smtp_server
from tests.support.world import NAMESPACE, bring_forward
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.simulator import Simulator, SimulatorConfig

_ENDS = """
SELECT m.outcome, d.state FROM mails a LEFT JOIN messages m ON m.message_id = a.message_id
    LEFT JOIN replies r ON r.turn_id = m.turn_id LEFT JOIN deliveries d ON d.reply_id = r.id
WHERE a.delivery_id IS NULL ORDER BY a.id
"""


@dataclass
class MailService:
    """One installation."""

    ground: Ground
    account: Account
    smtp_url: str
    box: Mailbox
    """What has left by SMTP."""
    poller: ForkedProcess | None = None
    _pollers: int = 0

    def start_poller(self, url: str | None = None) -> None:
        """Start `worker mailbox`. `url`: by way of a proxy."""
        fleet, self._pollers = self.ground.fleet, self._pollers + 1
        agents = fleet.folder / "mailbox-agents.toml"
        agents.write_text(fleet.agents)
        env = {
            "DATABASE_URL": fleet.database_url,
            "NAMESPACE": str(NAMESPACE),
            "AGENTS_FILE": str(agents),
            "IMAP_URL": url or self.account.url,
            "SANDBOX_DIR": str(fleet.folder / "none"),
            "PATH": os.environ["PATH"],
        }
        log = fleet.folder / f"mailbox-{self._pollers}.log"
        self.poller = ForkedProcess("worker", "mailbox", "--all", log=log, env=env)

    def kill_poller(self) -> None:
        if self.poller is not None:
            self.poller.kill()

    def start_worker(self) -> RealWorker:
        """Start a Celery worker; it need not be ready on return."""
        return self.ground.fleet.start(1, ready=False, SMTP_URL=self.smtp_url)[0]

    def kill_workers(self) -> None:
        for worker in self.ground.fleet.running():
            worker.kill()

    def ends(self) -> list[tuple[str | None, str | None]]:
        """Of each mail that was taken: its outcome, and the state of its reply's delivery."""
        rows = self.ground.database.rows(_ENDS)
        return [(row["outcome"], row["state"]) for row in rows]

    def arrived(self, address: str) -> list[tuple[bytes, EmailMessage]]:
        """The mails that have left for somebody."""
        found = [one.content for one in self.box.mails if one.rcpt_tos == [address]]
        raws = [raw for raw in found if isinstance(raw, bytes)]
        parsed = [message_from_bytes(raw, policy=policy.default) for raw in raws]
        return [
            (raw, mail)
            for raw, mail in zip(raws, parsed, strict=True)
            if isinstance(mail, EmailMessage)
        ]

    def wait_for_end(
        self, number: int, end: tuple[str | None, str | None], *, tick_s: float = 0.0
    ) -> None:
        """Wait until the newest mail is the one with this number, from 1, and has this end."""
        self.wait_for(lambda: self.ends()[number - 1 :] == [end], tick_s=tick_s)

    def bring_forward(self, seconds: float) -> None:
        """Make all that waits due so much earlier."""
        bring_forward(self.ground.database, seconds)

    def invoke(self, *arguments: str) -> str:
        """Return what a command prints."""
        fleet = self.ground.fleet
        env = {
            "DATABASE_URL": fleet.database_url,
            "BROKER_URL": fleet.broker_url,
            "TELNYX_BASE_URL": fleet.telnyx_base_url,
            "TELNYX_API_KEY": fleet.telnyx_api_key,
            "NAMESPACE": str(NAMESPACE),
            "SANDBOX_DIR": str(fleet.folder / "none"),
        }
        said = invoke(*arguments, env=env)
        assert said.returncode == 0, said.stderr
        return said.stdout

    def a_minute_passes(self) -> None:
        """Nobody reads a reply and answers it within seconds: see the rule `repeated`."""
        self.ground.database.run(
            "UPDATE deliveries SET finished_at = finished_at - interval '1 min'"
        )

    def wait_for(self, happened: Callable[[], bool], *, tick_s: float = 0.0) -> None:
        """Wait; AssertionError with what the processes do. `tick_s`: see `bring_forward`."""
        for _ in range(40):
            if eventually(happened, timeout_s=1.0):
                return
            self.bring_forward(tick_s)
        logs = "\n".join(one.read_text() for one in self.ground.fleet.folder.glob("mailbox-*.log"))
        raise AssertionError(f"{logs}\n{self.ground.unfinished()}\n{self.ground.fleet.report()}")


@contextmanager
def mail_service(
    postgres: EmbeddedPostgres, broker_url: str, imap: Dovecot, *, agents: str = AGENTS
) -> Iterator[MailService]:
    """Have one, still without processes."""
    box = Mailbox()
    with (
        open_folder() as folder,
        fresh_database(postgres) as url,
        Simulator(SimulatorConfig(list_visible_after_s=0)) as simulator,
        smtp_server(box) as port,
        running_fleet(
            folder,
            database_url=url,
            broker_url=broker_url,
            simulator=simulator,
            agents=agents_file(more=f"{agents}per_domain_per_minute = 600000\n"),
        ) as ground,
    ):
        service = MailService(
            ground=ground,
            account=imap.account(),
            smtp_url=f"smtp://127.0.0.1:{port}?plain=true",
            box=box,
        )
        try:
            yield service
        finally:
            service.kill_poller()
