"""What a campaign is made of: divided waits, agents, Telnyx's faults. Everything in seconds."""

from worker.domain.timing import Timing

CALL_TIMEOUT_S = 7.5
TIMING = Timing(
    send_grace_s=0.2,
    lease_margin_s=1.5,
    execution_limit_s=9.0,
    quiet_margin_s=1.3,
    settle_s=1.5,
    give_up_after_s=90.0,
    look_first_s=0.2,
    look_limit_s=1.5,
    heartbeat_s=0.5,
    alive_s=1.5,
    sweep_s=0.1,
    wake_ttl_s=1.0,
    stall_after_s=6.0,
    drain_s=8.0,
    watch_s=0.5,
)
"""Every wait of the protocol, divided by ten."""
QUIET_S = TIMING.quiet_s(CALL_TIMEOUT_S)

UNDIVIDED_S = 150.0
"""Waits that no setting divides: gates (15, 30, 60), a turn without conversation (up to 60)."""
FINAL_WITHIN_S = TIMING.lease_s(CALL_TIMEOUT_S) + QUIET_S + TIMING.give_up_after_s / 2 + UNDIVIDED_S

MODELS = {
    "web": "zai-org/GLM-5.3-Flash",
    "desk": "zai-org/GLM-5.3",
    "push": "moonshotai/Kimi-K2.6",
    "app": "Qwen/Qwen3.8-27B",
    "sms": "zai-org/GLM-5.3-Flash",
    "mail": "moonshotai/Kimi-K2.6",
}
"""By channel. Four models, so that the gate of one after a 429 does not stop the others."""
OUTSIDE = ("sms", "mail")
"""Channels of the gateway: what is written comes by HTTP, and replies leave by Telnyx or SMTP."""
OUR_NUMBER, OUR_MAIL = "+17735550002", "help@chaos.example"
MAILS_AN_HOUR = 9
"""Of one address; the next but one would be taken for a loop."""
HANG_UPS = 0.05
"""Of the SMTP server, when it has a mail: nobody learns that it does."""
TOOL_CHANNEL = "desk"
"""Its agent has a tool that honours no key: it may run at most once."""
BY_TASK, BY_WEBHOOK = "push", "app"
"""Channels whose replies go to the sink; those of the others stay in Postgres."""
OUTBOUND = "outbound"
WEBHOOK_SECRET = "CHAOS_WEBHOOK_SECRET"
WEBHOOK_FAILS = 0.03
"""Of the times that the sink takes a reply: it says that it did not."""
JUMP_S = 40.0
"""Of Postgres' clock: more than T_QUIET, and more than what may count as one jump seen twice."""
FALLBACK = "We could not answer this."
_EXTRAS = {
    "web": f'fallback_text = "{FALLBACK}"',
    "desk": 'instructions = "Be kind and brief."\ntools = ["note"]',
    "push": f'fallback_text = "{FALLBACK}"',
    "app": "",
    "sms": f'fallback_text = "{FALLBACK}"',
    "mail": f'fallback_text = "{FALLBACK}"',
}
_CHANNELS = {
    "app": "debounce_s = 0.2\nmax_wait_s = 2.0\n",
    # People who write that much are machines, elsewhere.
    "sms": 'driver = "telnyx"\nloop_breaker = false\ndisclosure = "none"\n',
    "mail": 'driver = "smtp"\nloop_breaker = false\ndisclosure = "none"\n'
    f'[channels.mail.mail]\naddresses = ["{OUR_MAIL}"]\nper_domain_per_minute = 600000\n',
}

TELNYX_SETTINGS: dict[str, object] = {
    "latency_s": 0.25,
    "latency_sigma": 0.4,
    "latency_max_s": 1.5,
    "list_visible_after_s": 0.1,
}
TELNYX_FAULTS: dict[str, float] = {
    "stored_then_dropped": 0.03,
    "stored_then_429_reset": 0.01,
    "stored_then_503": 0.02,
    "stored_then_500": 0.02,
    "dropped": 0.02,
    "429_reset": 0.01,
    "500": 0.02,
    "503": 0.02,
    "cut": 0.02,
    "truncated": 0.02,
    "502_html": 0.015,
    "late_execution": 0.012,
    "stored_late": 0.015,
    "hang": 0.005,
    "input_then_dropped": 0.004,
    "creation_lost": 0.2,
}
"""Chances. A 429 says when to come back: without that its gate waits 15 s, which nothing divides.

`late_execution` and `stored_late` store a second after the client left: within the execution limit.
"""
STALE_S = 0.4
"""Of stale reads: less than T_SETTLE and than the wait after a 429, as at Telnyx itself."""


def agents_file(webhook_url: str = "http://127.0.0.1:9/replies") -> str:
    """Give the text of the workers' agents file."""
    agents = "".join(
        f'[agents.{name}]\nmodel = "{model}"\ncall_timeout_s = {CALL_TIMEOUT_S}\n{_EXTRAS[name]}\n'
        for name, model in MODELS.items()
    )
    channels = "".join(
        f'[channels.{name}]\nagent = "{name}"\n{_CHANNELS.get(name, "")}' for name in MODELS
    )
    ways_out = (
        f'[channels.{BY_TASK}.delivery]\ntask = "replies.store"\nqueue = "{OUTBOUND}"\n'
        f'[channels.{BY_WEBHOOK}.delivery]\nurl = "{webhook_url}"\n'
        f'secret_env = "{WEBHOOK_SECRET}"\nallow_private = true\n'
    )
    tools = '[tools.note]\nfunction = "tests.chaos.tools:note"\ntimeout_s = 3\n'
    waits = "".join(
        f"{name} = {getattr(TIMING, name)}\n" for name in Timing.__dataclass_fields__ if name
    ).replace("max_unknown_calls = 3\n", "")
    return f'default_agent = "web"\n{agents}{channels}{ways_out}{tools}[timing]\n{waits}'
