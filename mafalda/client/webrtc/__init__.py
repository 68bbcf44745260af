"""WebRTC of the SDK: endpoints, transports and tracks on pymediasoup and aiortc."""
