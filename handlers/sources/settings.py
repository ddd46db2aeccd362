"""The settings that the webhook sources read, in addition to those of the pipeline."""

import base64
from typing import Final

from pydantic import Field, SecretStr, field_validator

from handlers.settings import MediaSettings, Secrets, Words

MIN_KEY_BYTES: Final = 24
MAX_KEY_BYTES: Final = 64
"""Size of a Standard Webhooks key in bytes (the specification, "Signature scheme")."""


class SourceSettings(MediaSettings):
    """The settings of webhook verification. Each field is the environment variable of the same name in capitals."""

    supabase_webhook_secrets: Secrets = Field(
        (),
        description="Secrets that are accepted from Supabase's webhooks: shared secrets, or signing secrets "
        "(`whsec_...`). Several are allowed, for rotation.",
    )
    fal_jwks_url: str = Field(
        "https://rest.alpha.fal.ai/.well-known/jwks.json",
        pattern=r"^https?://",
        description="URL of the public keys with which FAL signs its webhooks (JWKS).",
    )
    fal_user_ids: Words = Field(
        (),
        description="FAL accounts whose webhooks are accepted. Empty: `/webhooks/fal` is closed, because FAL's "
        "signature does not prove whose account a webhook is for.",
    )
    local_stack: bool = Field(
        default=False,
        description="Set by `outlast up` and `outlast demo`: `/webhooks/fal` accepts all accounts if FAL_USER_IDS is "
        "not set, and short tokens are accepted. RECEIVER_HOST must then be a loopback address.",
    )

    @field_validator("supabase_webhook_secrets")
    @classmethod
    def _check_signing_secrets(cls, secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for secret in secrets:
            text = secret.get_secret_value()
            if text.startswith("whsec_") and not is_signing_secret(text.removeprefix("whsec_")):
                raise ValueError("a signing secret must be whsec_ followed by the base64 of 24 to 64 random bytes")
        return secrets


def is_signing_secret(text: str) -> bool:
    """Return whether a text is the part after `whsec_` of a Standard Webhooks secret: base64 of a key of valid size."""
    try:
        return MIN_KEY_BYTES <= len(base64.b64decode(text, validate=True)) <= MAX_KEY_BYTES
    except ValueError:
        return False
