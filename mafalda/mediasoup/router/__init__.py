"""Routers, WebRtcServers and RTP observers."""
