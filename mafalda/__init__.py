"""Mafalda: one WebRTC SFU of any size, made of mediasoup workers and NATS JetStream."""
