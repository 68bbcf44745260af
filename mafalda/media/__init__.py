"""Models of RTP and transport parameters, in mediasoup's shapes, with bounds. Pure."""
