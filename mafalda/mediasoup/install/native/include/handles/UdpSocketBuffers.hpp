// SPDX-License-Identifier: Apache-2.0
//
// Larger buffers for the worker's UDP sockets. Written for Mafalda.

#ifndef MAFALDA_UDP_SOCKET_BUFFERS_HPP
#define MAFALDA_UDP_SOCKET_BUFFERS_HPP

#include <sys/socket.h>

namespace mafalda
{
	// What is asked for in each direction; the kernel gives net.core.rmem_max and wmem_max at most. An application that
	// sets sizes in its listenInfo overrides this.
	inline constexpr int UdpSocketBufferBytes{ 4 * 1024 * 1024 };

	inline void EnlargeUdpSocketBuffers(int fd)
	{
		// If the kernel refuses, the socket keeps what it has.
		::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &UdpSocketBufferBytes, sizeof(UdpSocketBufferBytes));
		::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &UdpSocketBufferBytes, sizeof(UdpSocketBufferBytes));
	}
} // namespace mafalda

#endif
