"""Messages on a queue that no worker takes, in words."""


def misplaced_line(queue: str, count: int) -> str:
    """Describe messages that no worker will take."""
    many = "1 message waits" if count == 1 else f"{count} messages wait"
    return f"{many} on queue {queue}, which no worker takes"
