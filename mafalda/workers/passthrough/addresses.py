"""Listen addresses of an application, replaced by this server's. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from typing import Any

from mafalda.workers.config import AgentConfig

Info = dict[str, Any]
_ANY_PORT = {"min": 0, "max": 0}


def map_listen_info(
    info: Mapping[str, Any], replaced: Collection[str], own: Collection[str], config: AgentConfig
) -> Info:
    """An application's listen info with the address, announced address and port range of this server.

    An address that this server has as well (loopback, the wildcard) stays. Another address of the application's host
    is replaced by the configured listen address. An address of neither stays, and the worker refuses it. The announced
    address is this server's, if one is configured, because the application's is that of its own host.

    Args:
        info: In the shape of the worker's schema.
        replaced: Addresses in the call that belong to the application's host.
        own: Addresses of this server.
        config: Configuration of this server.
    """
    mapped = dict(info)
    moved = info.get("ip") in replaced and not _is_wildcard(info.get("ip")) and info.get("ip") not in own
    if moved:
        mapped["ip"] = config.listen_ip
    if config.announced_address is not None and not _is_loopback(mapped.get("ip")):
        mapped["announcedAddress"] = config.announced_address
    elif moved:
        mapped.pop("announcedAddress", None)
    if config.port_range is not None and not info.get("port"):
        mapped["portRange"] = {"min": config.port_range.min, "max": config.port_range.max}
    return mapped


def map_options(
    options: Mapping[str, Any], replaced: Collection[str], own: Collection[str], config: AgentConfig
) -> Info:
    """Options of a new transport with every listen info in them mapped. Arguments as in ``map_listen_info``."""
    mapped = dict(options)
    for key in ("listenInfo", "rtcpListenInfo"):
        if isinstance(info := options.get(key), Mapping):
            mapped[key] = map_listen_info(info, replaced, own, config)
    listen = options.get("listen")
    if isinstance(listen, tuple) and len(listen) == 2 and listen[0] == "ListenIndividual":
        infos = listen[1].get("listenInfos")
        if isinstance(infos, list):
            mapped["listen"] = (
                listen[0],
                {"listenInfos": [map_listen_info(it, replaced, own, config) for it in infos]},
            )
    return mapped


def any_port(info: Mapping[str, Any]) -> Info:
    """The same listen info on any free port."""
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
