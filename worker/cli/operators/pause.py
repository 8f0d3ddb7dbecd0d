"""`worker pause` and `worker resume`."""

from worker.cli.console import print_json, print_line
from worker.cli.operators.context import an_operator, one_user


def run(who: str, *, resume: bool, as_json: bool) -> None:
    """Pause or resume one channel user."""
    with an_operator() as operator:
        user_id = one_user(operator, who)
        change = operator.pause.resume if resume else operator.pause.pause
        mirrored = change(user_id)
    state = "answered again" if resume else "paused"
    if as_json:
        print_json({"user": user_id, "state": state, "telnyx_told": mirrored})
        return
    print_line(f"channel user {user_id} is {state}")
    if not mirrored:
        print_line("Telnyx could not be told (ai_disabled); that changes nothing here")
