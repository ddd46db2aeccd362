"""The errors of verifying and parsing a webhook. The receiver translates each into an HTTP status."""


class RejectedError(Exception):
    """The secret or signature is missing, wrong or too old, or the FAL account is not accepted. Answered with 401."""


class ClosedError(Exception):
    """The route is closed, because a setting that it needs is missing. Answered with 403."""


class UnreadableError(Exception):
    """The sender is verified, but body or address cannot be parsed. Answered with 422; nothing is enqueued."""


class VerifierUnavailableError(Exception):
    """The sender cannot be verified at the moment. Answered with 503, so that the sender sends the webhook again."""
