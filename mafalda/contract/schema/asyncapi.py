"""Build the AsyncAPI 3.1 document: every channel with its senders and receivers, and every message.

Messages refer to the schema files in the same folder. ``tools/generate_schemas.py`` writes it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mafalda.contract.channels import CHANNELS, REPLY_CHANNEL, RESULT_ACTIONS, MessageChannel, Role
from mafalda.contract.ids import ID_PATTERN
from mafalda.contract.messages.envelope import CONTENT_TYPE
from mafalda.contract.messages.intents import INTENTS
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.registry import PAYLOADS
from mafalda.contract.schema.json_schema import ENVELOPE_FILE, schema_file
from mafalda.contract.subjects import LIVE

Document = dict[str, Any]

_ABOUT = """\
Every message is a CloudEvents 1.0 JSON event (structured mode); its data follows the schema that its type names. Ids
in subjects are 1 to 64 of A-Z a-z 0-9 _ -, nothing else. What is published on a stored channel is first stored in the
stream MAFALDA_LOG and then republished under live. followed by the same subject; whoever reacts listens there, because
only what was stored appears there (the plain subject also carries what the stream refused). Republished messages carry
Nats-Sequence and Nats-Last-Sequence. Inside a version, messages only grow by optional fields; unknown fields are to be
ignored.
""".replace("\n", " ").strip()

_PARAMETERS: dict[str, str] = {
    "room": "Id of the room.",
    "peer": "Id of the peer.",
    "server": "Id of the server.",
    "allocator": "Id of the allocator's process.",
    "action": "The message's action: the part of its type between kind and version.",
}

_HEADERS: Document = {
    "type": "object",
    "properties": {
        "Nats-Msg-Id": {
            "type": "string",
            "description": "The message's id; within the dedup window it is stored once.",
        },
        "Content-Type": {"type": "string", "const": CONTENT_TYPE},
        "traceparent": {"type": "string", "description": "W3C Trace Context, of this hop."},
        "Mafalda-Reply-To": {
            "type": "string",
            "description": "In intents: the inbox (_INBOX.…) to which the agent sends what must not be stored.",
        },
        "Mafalda-Generation": {
            "type": "string",
            "pattern": "^[0-9]+$",
            "description": "In intents: refused with stale-generation if the peer's place has a greater generation.",
        },
    },
}


def asyncapi(examples: Mapping[type[Payload], Mapping[str, Any]]) -> Document:
    """The document.

    Args:
        examples: A whole message (envelope and data, as JSON) for each type.
    """
    return {
        "asyncapi": "3.1.0",
        "id": "urn:mafalda",
        "info": {
            "title": "Mafalda SFU",
            "version": "1.0.0",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "local": {"host": "127.0.0.1:4222", "protocol": "nats", "description": "What 'mafalda up' starts."},
        },
        "channels": {name: body for channel in CHANNELS for name, body in _channels(channel).items()},
        "operations": {name: body for channel in CHANNELS for name, body in _operations(channel).items()},
        "components": {
            "parameters": {
                name: {"description": f"{about} Matches {ID_PATTERN}", "x-pattern": ID_PATTERN}
                for name, about in _PARAMETERS.items()
                if name != "action"
            },
            "messageTraits": {"headers": {"headers": _HEADERS, "bindings": {"nats": {"bindingVersion": "0.1.0"}}}},
            "messages": {_key(payload): _message(payload, examples[payload]) for payload in PAYLOADS.values()},
        },
    }


def _key(payload: type[Payload]) -> str:
    return f"{payload.kind}.{payload.action}.v{payload.version}"


def _message(payload: type[Payload], example: Mapping[str, Any]) -> Document:
    about = " ".join((payload.__doc__ or "").replace("``", "").split())
    return {
        "name": payload.type_name(),
        "title": payload.__name__,
        "summary": re.split(r"(?<=[.?:]) ", about)[0],
        "description": about,
        "contentType": CONTENT_TYPE,
        "traits": [{"$ref": "#/components/messageTraits/headers"}],
        "payload": {
            "allOf": [
                {"$ref": f"./{ENVELOPE_FILE}"},
                {
                    "type": "object",
                    "properties": {
                        "type": {"const": payload.type_name()},
                        "dataschema": {"const": payload.schema_uri()},
                        "data": {"$ref": f"./{schema_file(payload)}"},
                    },
                },
            ]
        },
        "examples": [{"name": payload.__name__, "payload": dict(example)}],
    }


# --- channels and operations ---------------------------------------------------------------------


def _channels(channel: MessageChannel) -> Document:
    if channel is REPLY_CHANNEL:
        return {channel.name: {**_channel(channel, channel.about), "address": None}}
    found = {channel.name: {**_channel(channel, channel.about), "address": channel.pattern}}
    if channel.stored:
        about = f"{channel.about} Republished once stored: listen here."
        found[_live(channel)] = {**_channel(channel, about), "address": LIVE + channel.pattern}
    return found


def _channel(channel: MessageChannel, about: str) -> Document:
    parameters = {name: _parameter(name, channel) for name in channel.parameters if name != "inbox"}
    return {
        "title": channel.name,
        "description": about,
        **({"parameters": parameters} if parameters else {}),
        "messages": {_key(payload): {"$ref": f"#/components/messages/{_key(payload)}"} for payload in channel.payloads},
        "bindings": {"nats": {"bindingVersion": "0.1.0"}},
    }


def _parameter(name: str, channel: MessageChannel) -> Document:
    if name != "action":
        return {"$ref": f"#/components/parameters/{name}"}
    return {"description": _PARAMETERS["action"], "enum": sorted(_actions(channel))}


def _actions(channel: MessageChannel) -> set[str]:
    if channel.kind == "result":
        return {intent.action for intent in INTENTS}
    return {action for payload in channel.payloads for action in RESULT_ACTIONS.get(payload, (payload.action,))}


def _operations(channel: MessageChannel) -> Document:
    sends = {f"{role}Sends{_title(channel)}": _operation("send", role, channel) for role in channel.senders}
    receives = {f"{role}Receives{_title(channel)}": _operation("receive", role, channel) for role in channel.receivers}
    return sends | receives


def _operation(action: str, role: Role, channel: MessageChannel) -> Document:
    is_live = action == "receive" and channel.stored
    operation: Document = {
        "action": action,
        "channel": {"$ref": f"#/channels/{_live(channel) if is_live else channel.name}"},
        "summary": f"{role} {action}s: {channel.name}",
        "tags": [{"name": role}],
        "bindings": {"nats": {"bindingVersion": "0.1.0"}},
    }
    if channel.kind in ("query", "request", "intent") and action == "send":
        operation["reply"] = {"channel": {"$ref": f"#/channels/{REPLY_CHANNEL.name}"}}
    if channel.kind == "intent" and action == "send":
        operation["reply"]["address"] = {
            "location": "$message.header#/Mafalda-Reply-To",
            "description": "Only for what must not be stored; everything else comes as results.",
        }
    return operation


def _live(channel: MessageChannel) -> str:
    return f"{channel.name}Live"


def _title(channel: MessageChannel) -> str:
    return channel.name[0].upper() + channel.name[1:]
