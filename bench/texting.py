"""Measures the worker's CPU: replies go out as text messages, as webhooks, or not at all."""

from contextlib import ExitStack
from dataclasses import replace

from bench.fast import ANSWERS, cpu
from bench.orders import OUR_NUMBER, PHONES
from bench.report import Report
from bench.rounds import interleaved, middle, ratios, warm_up
from bench.stage import AGENTS, Stage
from bench.variants import OURS

SECRET = "whsec_" + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
TEXTED = replace(
    OURS,
    name="texted",
    phones=True,
    users=OURS.users.replace(
        "INSERT INTO channel_users (channel, address, agent)\n            SELECT 'web', 'u' || n",
        "INSERT INTO channel_users (channel, recipient, address, agent)\n"
        f"            SELECT 'web', '{OUR_NUMBER}', '{PHONES}' || lpad(n::text, 4, '0') || '000'",
    ),
)
KEPT = AGENTS + 'kind = "telephone"\n'
WAYS = {
    "kept": KEPT,
    "webhook": KEPT
    + '[channels.web.delivery]\nurl = "http://127.0.0.1:{port}/hook"\n'
    + 'secret_env = "BENCH_SECRET"\nallow_private = true\n',
    "sms": AGENTS + 'driver = "telnyx"\n',
}


def measure(stage: Stage, report: Report, *, rounds: int, messages: int) -> None:
    """Compare the three at latency 0, in turns."""
    with ExitStack() as stack:
        subjects = []
        for name, agents in WAYS.items():
            file = stage.folder / f"texting-{name}.toml"
            file.write_text(agents.format(port=stage.upstream.port))
            env = {
                "AGENTS_FILE": str(file),
                "PUBLIC_URL": "http://127.0.0.1:1",
                "BENCH_SECRET": SECRET,
            }
            subjects.append(
                stack.enter_context(stage.subject(TEXTED, answers=ANSWERS, label=name, env=env))
            )
        for subject in subjects:
            warm_up(stage, subject)
        done = interleaved(stage, subjects, rounds=rounds, messages=messages)
        sent = subjects[2].connection.execute(
            "SELECT count(*) FROM deliveries WHERE state = 'sent' AND provider_id IS NOT NULL"
        )
        report.facts["text_messages_sent"] = int((sent.fetchone() or (0,))[0])
    said = ", ".join(f"{name} {middle(found, cpu):.2f} ms" for name, found in done.items())
    report.add("sms_webhook", ratios(done["sms"], done["webhook"], cpu), said)
    report.facts["sms_over_kept"] = [
        round(one, 3) for one in ratios(done["sms"], done["kept"], cpu)
    ]
