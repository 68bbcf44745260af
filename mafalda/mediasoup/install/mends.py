"""Our changes to the worker's source: one that upstream lacks, and the hooks of batched sending.

Only constants: they are part of the cache's key (``cache``) and applied by ``overlays``. The hooks are few, so that
they are easily moved to another version; what they call is in ``native/``. Why: ``docs/decisions/0006-batched-udp.md``.
"""

from __future__ import annotations

from typing import NamedTuple


class Mend(NamedTuple):
    """One change to the worker's source: ``old`` must occur exactly once, or the build fails."""

    path: str
    old: str
    new: str
    why: str


_KERNEL_TLS = Mend(
    path="src/RTC/DtlsTransport.cpp",
    old="(operationType == BIO_CB_RETURN) ?",
    new="((operationType & BIO_CB_RETURN) != 0) ?",
    why=(
        "OpenSSL passes the operation and BIO_CB_RETURN together, so the comparison never holds and the "
        "callback answers 1 to every BIO_ctrl. An OpenSSL with kernel TLS then believes that KTLS is "
        "active, and the worker dies (SIGSEGV) at its first DTLS handshake."
    ),
)

_BATCH_SOURCES = Mend(
    path="meson.build",
    old="  'src/handles/UdpSocketHandle.cpp',\n",
    new=(
        "  'src/handles/UdpSendBatch.cpp',\n"
        "  'src/handles/UdpSendBatchLoop.cpp',\n"
        "  'src/handles/UdpSocketHandle.cpp',\n"
    ),
    why="Compile the batch.",
)

_BATCH_INTERFACE = Mend(
    path="include/handles/UdpSocketHandle.hpp",
    old="""#include <uv.h>
#include <string>

class UdpSocketHandle
{
""",
    new="""#include "handles/UdpSendBatch.hpp"
#include <uv.h>
#include <string>

class UdpSocketHandle : public mafalda::UdpSendBatch::Socket
{
	/* Methods inherited from mafalda::UdpSendBatch::Socket. */
public:
	bool HasSendQueue() const override;
	void SendNow(
		const uint8_t* data, size_t len, const struct sockaddr* addr, mafalda::UdpSendBatch::Callback* cb) override;
	void OnBatchSent(size_t bytes) override;

""",
    why="A UDP socket of the worker is a socket of the batch.",
)

_BATCH_INCLUDE = Mend(
    path="src/handles/UdpSocketHandle.cpp",
    old='#include "handles/UdpSocketHandle.hpp"\n',
    new=(
        '#include "handles/UdpSocketHandle.hpp"\n'
        '#include "handles/UdpSendBatchLoop.hpp"\n'
        '#include "handles/UdpSocketBuffers.hpp"\n'
    ),
    why="Use the batch.",
)

_BATCH_OPEN = Mend(
    path="src/handles/UdpSocketHandle.cpp",
    old="	// Set local address.\n	if (!SetLocalAddress())\n",
    new="""	uv_os_fd_t fd{ -1 };

	if (uv_fileno(reinterpret_cast<uv_handle_t*>(this->uvHandle), std::addressof(fd)) == 0)
	{
		mafalda::EnlargeUdpSocketBuffers(fd);

		if (mafalda::UdpSendBatchLoop::Get())
		{
			EnableBatch(fd);
		}
	}

	// Set local address.
	if (!SetLocalAddress())
""",
    why="Each UDP socket has buffers of 4 MiB if the kernel gives them, and sends through the batch.",
)

_BATCH_SEND = Mend(
    path="src/handles/UdpSocketHandle.cpp",
    old="	// First try uv_udp_try_send(). In case it can not directly send the datagram\n",
    new="""	auto* batch = mafalda::UdpSendBatchLoop::Get();

	if (!batch || !batch->Add(*this, data, len, addr, cb))
	{
		SendNow(data, len, addr, cb);
	}
}

bool UdpSocketHandle::HasSendQueue() const
{
	return uv_udp_get_send_queue_count(this->uvHandle) != 0;
}

void UdpSocketHandle::OnBatchSent(size_t bytes)
{
	this->sentBytes += bytes;
}

void UdpSocketHandle::SendNow(
  const uint8_t* data, size_t len, const struct sockaddr* addr, UdpSocketHandle::onSendCallback* cb)
{
	MS_TRACE();

	// First try uv_udp_try_send(). In case it can not directly send the datagram
""",
    why="A datagram goes into the batch; without one, or if it does not take it, it is sent as before.",
)

_BATCH_CLOSE = Mend(
    path="src/handles/UdpSocketHandle.cpp",
    old="	this->closed = true;\n\n	// Tell the UV handle that the UdpSocketHandle has been closed.\n",
    new="""	// What was sent before the closing leaves before it.
	if (auto* batch = mafalda::UdpSendBatchLoop::Get())
	{
		batch->Close(*this);
	}

	this->closed = true;

	// Tell the UV handle that the UdpSocketHandle has been closed.
""",
    why="A socket does not close with datagrams of its own in the batch.",
)

_BATCH_ENCRYPT = Mend(
    path="src/RTC/SrtpSession.cpp",
    old="""		uint8_t* encryptBuffer = EncryptBuffer;
		size_t encryptLen      = EncryptBufferSize;

		const srtp_err_status_t err = srtp_protect(
""",
    new="""		// Encrypt into the batch if there is room, so that sending needs no copy.
		const size_t wantedLen = *len + SRTP_MAX_TRAILER_LEN;
		auto* batch            = mafalda::UdpSendBatchLoop::Get();
		uint8_t* reserved      = batch ? batch->Reserve(wantedLen) : nullptr;
		uint8_t* encryptBuffer = reserved ? reserved : EncryptBuffer;
		size_t encryptLen      = reserved ? wantedLen : EncryptBufferSize;

		const srtp_err_status_t err = srtp_protect(
""",
    why="No copy between encryption and sending.",
)

_BATCH_ENCRYPT_INCLUDE = Mend(
    path="src/RTC/SrtpSession.cpp",
    old='#include "MediaSoupErrors.hpp"\n',
    new='#include "MediaSoupErrors.hpp"\n#include "handles/UdpSendBatchLoop.hpp"\n',
    why="Use the batch.",
)

_BATCH_END = Mend(
    path="src/DepLibUV.cpp",
    old="	uv_stop(DepLibUV::loop);\n",
    new="	mafalda::UdpSendBatchLoop::Close();\n\n	uv_stop(DepLibUV::loop);\n",
    why="The batch leaves the loop before the loop is closed.",
)

_BATCH_END_INCLUDE = Mend(
    path="src/DepLibUV.cpp",
    old='#include "Utils.hpp"\n',
    new='#include "Utils.hpp"\n#include "handles/UdpSendBatchLoop.hpp"\n',
    why="Use the batch.",
)

_RECEIVE_MANY = Mend(
    path="src/handles/UdpSocketHandle.cpp",
    old="static constexpr size_t ReadBufferSize{ 65536 };\n",
    new="""// With each recvmmsg(), libuv takes one datagram into each 64 KiB of the buffer that it gets.
static constexpr size_t ReadChunkSize{ 65536 };
static constexpr size_t ReadBufferSize{ 16 * ReadChunkSize };
""",
    why="libuv's recvmmsg() takes one datagram a call if the buffer holds no more.",
)

_RECEIVE_CHUNK = Mend(
    path="src/handles/UdpSocketHandle.cpp",
    old="UserOnUdpDatagramReceived(reinterpret_cast<uint8_t*>(buf->base), nread, ReadBufferSize, addr);",
    new="UserOnUdpDatagramReceived(reinterpret_cast<uint8_t*>(buf->base), nread, ReadChunkSize, addr);",
    why="A datagram's own room ends where the next datagram begins.",
)

MENDS = (
    _KERNEL_TLS,
    _BATCH_SOURCES,
    _BATCH_INTERFACE,
    _BATCH_INCLUDE,
    _BATCH_OPEN,
    _BATCH_SEND,
    _BATCH_CLOSE,
    _BATCH_ENCRYPT,
    _BATCH_ENCRYPT_INCLUDE,
    _BATCH_END,
    _BATCH_END_INCLUDE,
    _RECEIVE_MANY,
    _RECEIVE_CHUNK,
)
