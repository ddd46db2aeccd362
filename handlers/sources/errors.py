"""How a source says no."""


class RejectedError(Exception):
    """The request proves no right to speak: bad, missing or stale secret or signature. Answered with 401."""


class UnreadableError(Exception):
    """The sender is genuine, the body makes no sense. Answered with 422, never enqueued."""


class VerifierUnavailableError(Exception):
    """What is needed to verify cannot be had right now. Answered with 503, so that the sender comes again."""
