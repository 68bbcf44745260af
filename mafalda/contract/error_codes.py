"""Each error code that a message may hold: what causes it, and what its receiver does about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorHelp:
    """Why an error happens and what to do, for whoever writes a client."""

    cause: str
    cure: str


#: In the order of ``mafalda.errors``: what the sender must change, what the room does not allow, what failed outside.
ERROR_HELP: dict[str, ErrorHelp] = {
    "error": ErrorHelp(
        "Something failed that Mafalda does not expect; the server's log has it under the correlation id.",
        "Do not repeat it at once. Report it with the `correlation_id` among its details.",
    ),
    "bad-input": ErrorHelp("The message cannot be accepted as it is.", "Change it; a repetition changes nothing."),
    "illegal-id": ErrorHelp(
        "A room, peer or object id is not 1 to 64 of `A-Z a-z 0-9 _ -`. If NATS allows no result on the subject (an id "
        "`*`), the answer comes to the inbox that `Mafalda-Reply-To` names.",
        "Derive a legal id from your own, by hex or base64url.",
    ),
    "malformed-message": ErrorHelp(
        "Not JSON, not a CloudEvent, data that its schema refuses (the message names the places), or a message of "
        "another subject, by its type or by its own `subject`.",
        "Validate what you send against `schemas/` while you develop.",
    ),
    "message-too-large": ErrorHelp(
        "The message is longer than the limit; `limit_bytes` and `size_bytes` are among the details.",
        "Keep large application data elsewhere, and send its address.",
    ),
    "unknown-type": ErrorHelp("No message has this `type`.", "Compare `type` with messages.md."),
    "unknown-version": ErrorHelp(
        "The message exists, but not in this version: the client is newer than the servers.",
        "Send the version before; see *Versions* below.",
    ),
    "illegal-reply-subject": ErrorHelp(
        "`Mafalda-Reply-To`, or the reply subject of a query, is no inbox.", "Use an inbox of your client library."
    ),
    "invalid-parameters": ErrorHelp(
        "mediasoup refuses the parameters: RTP parameters that contradict each other, a payload type twice.",
        "Correct the RTP, DTLS or SCTP parameters; the message says which.",
    ),
    "unsupported": ErrorHelp(
        "No router can take it: a codec, or capabilities without any codec in common.",
        "Choose from `routerRtpCapabilities` of the `join` result.",
    ),
    "refused": ErrorHelp(
        "The present state of the room does not allow it.", "Ask the room (`query.room`), then decide."
    ),
    "not-found": ErrorHelp(
        "The peer or the room has no object with this id, or it has closed meanwhile.",
        "Drop the id. A producer of another peer may have ended: its `producer-closed` comes or came.",
    ),
    "already-exists": ErrorHelp(
        "The id is taken: the peer has joined already, or has a transport or consumer with this id, or the room has a "
        "producer with it.",
        "Choose another id. For `join`: use another peer id, or send `leave` first.",
    ),
    "not-joined": ErrorHelp(
        "The peer is not in the room: it never joined, has left, or was removed.",
        "Send `join` and wait for its result.",
    ),
    "stale-generation": ErrorHelp(
        "It was meant for a place that the peer does not have any more, by its `Mafalda-Generation` or because it was "
        "stored before the `join` result of the present place; or it is a `leave` that was done already.",
        "Begin again at the generation of the last `join` result.",
    ),
    "cannot-consume": ErrorHelp(
        "The consumer's `rtpCapabilities` have no codec of this producer.",
        "Show the producer as not playable; other producers may be.",
    ),
    "not-granted": ErrorHelp(
        "The peer's token, or what was granted instead, does not permit it: a kind of media (`publish`), to join but "
        "as `audience`, to receive what it waited for (`subscribe` was withdrawn), a call of the worker's channel.",
        "Ask the application's server for a token with more grants, and connect with it.",
    ),
    "bad-token": ErrorHelp(
        "A token cannot be revoked because it is not one: wrong signature, unknown `kid`, expired, wrong claims.",
        "Make it as security.md shows. A connection with such a token is refused by NATS itself.",
    ),
    "audience-cannot-produce": ErrorHelp(
        "The peer is of the audience (`join`, `set-audience`): it only receives, and the room does not know it.",
        "`set-audience` with `false`, or join without `audience`.",
    ),
    "no-capacity": ErrorHelp(
        "No worker is below its watermark within the join's time, or the peer has too many intents waiting. For a join "
        "the details count the workers passed over by reason.",
        "Wait some seconds, with back-off. Operators: add workers or servers.",
    ),
    "rate-limited": ErrorHelp(
        "The peer sends more intents, bytes or queries than it may: `limit` names which, `allowed` how many a second.",
        "Wait `retry_after_s` seconds (among the details), then send what is still wanted, with a new `id`. A peer "
        "that goes on is removed from the room (`peer-left`, `evicted`).",
    ),
    "too-many-transports": ErrorHelp(
        "The peer has as many transports as it may have; `allowed` says how many.", "Close one, or use one for all."
    ),
    "too-many-producers": ErrorHelp(
        "The peer, or the room (`limit` says which), has as many producers as it may have.", "Close one first."
    ),
    "too-many-consumers": ErrorHelp(
        "The peer has as many consumers as it may have.", "Close those that are not shown; subscribe to fewer."
    ),
    "too-many-peers": ErrorHelp(
        "The room has as many peers as it may have.", "Join another room, or try again when somebody has left."
    ),
    "broken": ErrorHelp("Something outside failed.", "Try again with back-off."),
    "worker-died": ErrorHelp(
        "The worker of the peer ended, or hangs and was ended.",
        "Wait for the next `join` result (it comes by itself), then open transports, producers and consumers again.",
    ),
    "worker-request-failed": ErrorHelp(
        "The worker refused a request that looked right; the reason is its own.", "As `invalid-parameters`."
    ),
    "bus-unavailable": ErrorHelp(
        "NATS, or its stream, cannot be reached or has no leader now.",
        "Try again with back-off. A publish that NATS did not confirm: with the same `id`.",
    ),
    "log-full": ErrorHelp(
        "The stream, the account or the disk is full. A `join` is told so in its inbox.",
        "Try again after minutes. Operators: raise `max_bytes`, or keep fewer entries (`--log-keep`).",
    ),
    "log-truncated": ErrorHelp(
        "Entries that a reader had not read are not in the log any more: it was cut off for too long.",
        "Begin anew: join again. Operators: `mafalda replay --archive` reads older entries.",
    ),
    "deadline-exceeded": ErrorHelp(
        "No answer came in time: from a worker under overload, from a relay that did not open, or from nobody.",
        "Try again with back-off, with a new `id`.",
    ),
    "relay-failed": ErrorHelp(
        "The producer is on another worker, and could not be brought to this peer's.",
        "Send the `consume` again (a new `id`) after a second; another way may be chosen.",
    ),
    "permission-denied": ErrorHelp(
        "The NATS credential does not allow the subject. NATS itself says so to the connection, not in a result.",
        "Use a credential for this room and peer.",
    ),
    "conflict": ErrorHelp(
        "Two allocators decided for one room at once. Never seen by clients.", "None: the loser decides again."
    ),
    "closed": ErrorHelp("The SDK's own object was closed by its application.", "Nothing was sent; open a new one."),
}
