"""Generated from mediasoup's flatbuffers schemas by ``python -m mafalda.mediasoup.codec.generate``."""
