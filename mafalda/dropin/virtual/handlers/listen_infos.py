"""Listen infos of the application, with the ports that its settings name. Pure."""

from __future__ import annotations

from typing import Any

ListenInfo = dict[str, Any]


def with_ports(info: ListenInfo, ports: dict[str, int] | None) -> ListenInfo:
    """A listen info with the range of ports, where it names none of its own.

    Args:
        info: In the codec's shape.
        ports: The range that the application's settings name; ``None``: none.
    """
    named = info.get("portRange") or {}
    if ports is None or info.get("port") or named.get("min") or named.get("max"):
        return info
    return {**info, "portRange": ports}


def take_listen_infos(options: dict[str, Any], ports: dict[str, int] | None) -> list[ListenInfo]:
    """Put the range of ports into every listen info of a transport's options; all these listen infos.

    Args:
        options: In the codec's shape; changed.
        ports: As for ``with_ports``.
    """
    found: list[ListenInfo] = []
    for key in ("listenInfo", "rtcpListenInfo"):
        if options.get(key):
            options[key] = with_ports(options[key], ports)
            found.append(options[key])
    listen = options.get("listen")
    if isinstance(listen, tuple) and listen[0] == "ListenIndividual":
        infos = [with_ports(info, ports) for info in listen[1]["listenInfos"]]
        options["listen"] = (listen[0], {"listenInfos": infos})
        found += infos
    return found
