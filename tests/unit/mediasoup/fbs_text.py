"""Our schema data as a flatbuffers schema again, so that flatc can read what we write and write what we read."""

from __future__ import annotations

from collections import defaultdict

from mafalda.mediasoup.fbs import schema as generated

_SCALARS = {
    "u8": "uint8",
    "i8": "int8",
    "u16": "uint16",
    "i16": "int16",
    "u32": "uint32",
    "i32": "int32",
    "u64": "uint64",
    "i64": "int64",
    "f32": "float",
    "f64": "double",
    "bool": "bool",
    "string": "string",
    "bytes": "[uint8]",
}


def fbs_text() -> str:
    """All of it in one file, whose root is the message. Names are our JSON names."""
    blocks: dict[str, list[str]] = defaultdict(list)
    for name, values in generated.ENUMS.items():
        blocks[_namespace(name)].append(
            f"enum {_last(name)}: uint8 {{ {', '.join(f'{key} = {value}' for key, value in values.items())} }}"
        )
    for name, members in generated.UNIONS.items():
        inside = ", ".join(f"{member}: {table}" for member, table in members)
        blocks[_namespace(name)].append(f"union {_last(name)} {{ {inside} }}")
    for name, fields in generated.TABLES.items():
        lines = [_field(*field) for field in fields]
        blocks[_namespace(name)].append(f"table {_last(name)} {{ {' '.join(lines)} }}")
    # flatc wants enums and unions before they are used as defaults, so: enums of all namespaces first.
    order = sorted(blocks, key=lambda namespace: namespace == "FBS.Message")
    text = []
    for kind in ("enum", "union", "table"):
        for namespace in order:
            text.append(f"namespace {namespace};")
            text += [block for block in blocks[namespace] if block.startswith(kind)]
    return "\n".join([*text, "namespace FBS.Message;", "root_type Message;", ""])


def _field(name: str, offset: int, type_: str, default: object) -> str:
    kind = type_.split(":", 1)
    vector = type_.startswith("[")
    inner = type_.strip("[]").split(":", 1)
    spelled = inner[1] if len(inner) == 2 else _SCALARS[inner[0]]
    spelled = f"[{spelled}]" if vector else spelled
    attributes = " (required)" if default is ... else ""
    value = ""
    if not vector and (kind[0] == "enum" or kind[0] in _SCALARS) and kind[0] not in ("string", "bytes"):
        if default is None:
            value = " = null"
        elif isinstance(default, bool):
            value = f" = {str(default).lower()}"
        elif kind[0] == "enum" and isinstance(default, int):
            value = f" = {next(key for key, number in generated.ENUMS[kind[1]].items() if number == default)}"
        else:
            value = f" = {default}"
    return f"{name}: {spelled}{value}{attributes};"


def _namespace(name: str) -> str:
    return name.rsplit(".", 1)[0]


def _last(name: str) -> str:
    return name.rsplit(".", 1)[1]
