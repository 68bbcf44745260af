"""How the webhook bridge delivers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr


class WebhookConfig(BaseModel):
    """Where to, and how patiently."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: HttpUrl = Field(description="The endpoint.")
    secret: SecretStr = Field(
        description="As Standard Webhooks defines it: whsec_ and 24 to 64 random bytes in base64."
    )
    timeout_s: float = Field(15, gt=0, description="Seconds for one request. Standard Webhooks suggests 15 to 30.")
    first_retry_s: float = Field(
        1, gt=0, description="Seconds until the first repetition; doubled each time, with jitter."
    )
    longest_retry_s: float = Field(600, gt=0, description="The longest time between two attempts, in seconds.")
    give_up_after_s: float = Field(
        86_400, gt=0, description="Seconds after which an event becomes a dead letter, and the room's next one is sent."
    )
    max_unfinished: int = Field(
        1_000,
        ge=1,
        description="Events that may wait at once; beyond that the log is not read further. Each takes some KB.",
    )
    save_interval_s: float = Field(1, gt=0, description="Seconds between two writes of the cursor.")
