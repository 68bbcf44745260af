"""Where an application wanted to listen, and where that is on this server. Pure.

What does not belong here: finding out which addresses this server has (``house``).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from typing import Any

from mafalda.workers.config import AgentConfig

Info = dict[str, Any]
_ANY_PORT = {"min": 0, "max": 0}


def map_listen_info(info: Mapping[str, Any], home: Collection[str], own: Collection[str], config: AgentConfig) -> Info:
    """One listen info of an application, as this server's.

    An address that this server has too (loopback, every address) stays, and one that is nobody's is the worker's to
    refuse. Another address of the application's own host becomes ours. What is announced is ours wherever we have
    something to announce, because the application's is its own host's.

    Args:
        info: In the worker's schema.
        home: Addresses among those in the call that are the application's own host's.
        own: This server's addresses.
        config: This server's.
    """
    mapped = dict(info)
    moved = info.get("ip") in home and not _is_wildcard(info.get("ip")) and info.get("ip") not in own
    if moved:
        mapped["ip"] = config.listen_ip
    if config.announced_address is not None and not _is_loopback(mapped.get("ip")):
        mapped["announcedAddress"] = config.announced_address
    elif moved:
        mapped.pop("announcedAddress", None)
    if config.port_range is not None and not info.get("port"):
        mapped["portRange"] = {"min": config.port_range.min, "max": config.port_range.max}
    return mapped


def map_options(options: Mapping[str, Any], home: Collection[str], own: Collection[str], config: AgentConfig) -> Info:
    """The options of a new transport, with every listen info in them mapped."""
    mapped = dict(options)
    for key in ("listenInfo", "rtcpListenInfo"):
        if isinstance(info := options.get(key), Mapping):
            mapped[key] = map_listen_info(info, home, own, config)
    listen = options.get("listen")
    if isinstance(listen, tuple) and len(listen) == 2 and listen[0] == "ListenIndividual":
        infos = listen[1].get("listenInfos")
        if isinstance(infos, list):
            mapped["listen"] = (listen[0], {"listenInfos": [map_listen_info(it, home, own, config) for it in infos]})
    return mapped


def any_port(info: Mapping[str, Any]) -> Info:
    """The same on whatever port is free."""
    return {**info, "port": 0, "portRange": dict(_ANY_PORT)}


def _address(text: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_wildcard(text: Any) -> bool:
    address = _address(text)
    return address is not None and address.is_unspecified


def _is_loopback(text: Any) -> bool:
    address = _address(text)
    return address is not None and address.is_loopback
