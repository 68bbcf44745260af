"""Size limits of a transport's SCTP association and of its data messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class SctpLimits:
    """Size limits in bytes, with mediasoup's defaults.

    Attributes:
        max_send_message_size: Largest message to the endpoint.
        max_receive_message_size: Largest message from the endpoint.
        send_buffer_size: Most bytes that wait to be sent, over all streams.
        per_stream_send_queue_limit: Most bytes that wait to be sent on one stream.
        max_receiver_window_buffer_size: The receive window.
        default_stream_buffered_amount_low_threshold: Buffered bytes at which ``bufferedamountlow`` is emitted.
    """

    max_send_message_size: int = 262_144
    max_receive_message_size: int = 262_144
    send_buffer_size: int = 2_000_000
    per_stream_send_queue_limit: int = 2_000_000
    max_receiver_window_buffer_size: int = 5_242_880
    default_stream_buffered_amount_low_threshold: int = 1024

    def base_options(self, *, enable_sctp: bool, is_data_channel: bool) -> dict[str, Any]:
        """The options that all transports but direct ones have in common."""
        return {
            "enableSctp": enable_sctp,
            "isDataChannel": is_data_channel,
            "maxSendMessageSize": self.max_send_message_size,
            "maxReceiveMessageSize": self.max_receive_message_size,
            "sctpSendBufferSize": self.send_buffer_size,
            "sctpPerStreamSendQueueLimit": self.per_stream_send_queue_limit,
            "sctpMaxReceiverWindowBufferSize": self.max_receiver_window_buffer_size,
            "sctpDefaultStreamBufferedAmountLowThreshold": self.default_stream_buffered_amount_low_threshold,
        }
