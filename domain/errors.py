"""The two roots every error descends from: the class says what to do about it."""


class HsiError(Exception):
    """Anything this product raises on purpose."""

    answer: str | None = None
    """What a service said instead of what was agreed; kept with the entry when that is parked."""


class TransientError(HsiError):
    """It may succeed later: the same work is tried again, a bounded number of times."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which another try makes sense; None leaves it to the caller's back-off."""


class ServiceUnavailableError(TransientError):
    """A service the stage depends on does not answer: the stage pauses, no attempt is charged."""

    def __init__(self, service: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.service = service


class PermanentError(HsiError):
    """It will never succeed as it is: the entry is parked with this error as its cause."""
