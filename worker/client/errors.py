"""The client's one error class."""


class ProducerError(Exception):
    """Something is not certainly queued. `str()` never holds a text, an address or a URL.

    `field` names the field to correct: this message is not queued, and never will be as it is.
    Without a field it was not confirmed: send it again, which is safe.
    """

    def __init__(
        self, message: str, *, field: str | None = None, confirmed: int = 0, uncertain: int = 0
    ) -> None:
        super().__init__(message)
        self.field = field
        """The field at fault, or "envelope"; None = the message is valid, but not confirmed."""
        self.confirmed = confirmed
        """How many of the call's messages are certainly queued: the first ones."""
        self.uncertain = uncertain
        """How many after those may be queued or not; none of the rest is. 0 = none of them is."""
