// SPDX-License-Identifier: Apache-2.0

#include "handles/UdpSendBatch.hpp"
#include <netinet/udp.h>
#include <cerrno>
#include <cstring>
#include <utility>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

namespace mafalda
{
	static constexpr size_t Alignment{ 16 };

	static constexpr size_t Aligned(size_t size)
	{
		return (size + Alignment - 1) & ~(Alignment - 1);
	}

	// Whether this error of a GSO message means that the same datagrams may pass one by one: no checksum offload or
	// IPsec on the way (EIO), a segment that does not fit the path's MTU (EINVAL, EMSGSIZE), no GSO at all.
	static bool IsRefusal(int error)
	{
		return error == EIO || error == EINVAL || error == EMSGSIZE || error == EOPNOTSUPP || error == ENOPROTOOPT;
	}

	static socklen_t LengthOf(const struct sockaddr* addr)
	{
		return addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	}

	static uint64_t Mix(uint64_t value)
	{
		value ^= value >> 32U;
		value *= 0x9E3779B97F4A7C15ULL;

		return value ^ (value >> 29U);
	}

	void UdpSendBatch::Socket::EnableBatch(int fd)
	{
		int segment{ 0 };
		socklen_t len = sizeof(segment);

		this->fd  = fd;
		this->gso = ::getsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment, &len) == 0;
	}

	UdpSendBatch::UdpSendBatch(SendMmsg sendMmsg)
	  : sendMmsg(sendMmsg),
	    bytes(new uint8_t[MaxBytes]),
	    datagrams(new Datagram[MaxDatagrams]),
	    groups(new Group[MaxDatagrams]),
	    table(new Place[TableSize]()),
	    messages(new struct mmsghdr[MaxDatagrams]),
	    messageGroups(new uint16_t[MaxDatagrams]),
	    vectors(new struct iovec[MaxDatagrams]),
	    controls(new Control[MaxDatagrams])
	{
	}

	UdpSendBatch::~UdpSendBatch()
	{
		for (size_t i{ 0 }; i < this->count; ++i)
		{
			delete this->datagrams[i].cb;
		}
	}

	uint8_t* UdpSendBatch::Reserve(size_t len)
	{
		if (!this->usable || this->sending || len > MaxBytes)
		{
			return nullptr;
		}

		if (IsFull(len))
		{
			Send();
			RunCallbacks();

			// The callbacks may have filled it again.
			if (IsFull(len))
			{
				return nullptr;
			}
		}

		return this->bytes.get() + this->used;
	}

	bool UdpSendBatch::Add(
	  Socket& socket, const uint8_t* data, size_t len, const struct sockaddr* addr, Callback* cb)
	{
		const bool known = addr != nullptr && (addr->sa_family == AF_INET || addr->sa_family == AF_INET6);

		if (!this->usable || this->sending || socket.fd < 0 || !known || len == 0 || len > MaxBytes)
		{
			Send();

			return false;
		}

		if (IsFull(len))
		{
			Send();
		}

		auto* place = this->bytes.get() + this->used;

		if (data != place)
		{
			std::memmove(place, data, len);
		}

		const auto index = static_cast<uint16_t>(this->count);
		auto& datagram   = this->datagrams[index];

		datagram = Datagram{ &socket, cb, place, static_cast<uint32_t>(len), None, {} };

		std::memset(&datagram.addr, 0, sizeof(datagram.addr));

		if (addr->sa_family == AF_INET)
		{
			const auto* v4 = reinterpret_cast<const struct sockaddr_in*>(addr);

			datagram.addr.v4.sin_family = AF_INET;
			datagram.addr.v4.sin_port   = v4->sin_port;
			datagram.addr.v4.sin_addr   = v4->sin_addr;
		}
		else
		{
			std::memcpy(&datagram.addr.v6, addr, sizeof(struct sockaddr_in6));
		}

		this->used = Aligned(this->used + len);
		this->count++;

		PutIntoGroup(index);

		if (this->count >= MaxSmallDatagrams && this->used < this->count * SmallBytes)
		{
			Send();
		}

		return true;
	}

	void UdpSendBatch::PutIntoGroup(uint16_t index)
	{
		const auto& datagram = this->datagrams[index];
		auto& place          = FindPlace(datagram);

		if (place.round == this->round)
		{
			auto& group = this->groups[place.group];

			if (
			  datagram.socket->gso && !group.complete && datagram.len <= group.segment && group.size < MaxSegments &&
			  group.bytes + datagram.len <= MaxMessageBytes)
			{
				this->datagrams[group.last].next = index;

				group.last     = index;
				group.size     = static_cast<uint16_t>(group.size + 1);
				group.bytes    = group.bytes + datagram.len;
				group.complete = datagram.len < group.segment;

				return;
			}
		}

		OpenGroup(place, index);
	}

	// The destination's place in the table, or the free one where it belongs. There is always one: the table is larger
	// than the batch.
	UdpSendBatch::Place& UdpSendBatch::FindPlace(const Datagram& datagram)
	{
		uint64_t words[4]{};

		std::memcpy(words, &datagram.addr, sizeof(struct sockaddr_in6));

		uint64_t hash = Mix(reinterpret_cast<uintptr_t>(datagram.socket));

		for (const auto word : words)
		{
			hash = Mix(hash ^ word);
		}

		for (size_t i = hash % TableSize;; i = (i + 1) % TableSize)
		{
			auto& place = this->table[i];

			if (place.round != this->round)
			{
				return place;
			}

			const auto& other = this->datagrams[this->groups[place.group].first];

			if (
			  other.socket == datagram.socket &&
			  std::memcmp(&other.addr, &datagram.addr, sizeof(struct sockaddr_in6)) == 0)
			{
				return place;
			}
		}
	}

	void UdpSendBatch::OpenGroup(Place& place, uint16_t index)
	{
		auto& datagram    = this->datagrams[index];
		auto& socket      = *datagram.socket;
		const auto number = static_cast<uint16_t>(this->groupCount++);

		this->groups[number] = Group{ index, index, 1, None, datagram.len, datagram.len, false };
		place                = Place{ this->round, number };

		if (socket.round != this->round)
		{
			socket.round      = this->round;
			socket.firstGroup = number;

			this->sockets.push_back(&socket);
		}
		else
		{
			this->groups[socket.lastGroup].nextOfSocket = number;
		}

		socket.lastGroup = number;
	}

	void UdpSendBatch::Send()
	{
		if (this->count == 0 || this->sending)
		{
			return;
		}

		this->sending = true;

		for (auto* socket : this->sockets)
		{
			SendSocket(*socket);
		}

		this->sockets.clear();
		this->count      = 0;
		this->used       = 0;
		this->groupCount = 0;
		this->sending    = false;

		// 0 is what sockets and places start with.
		if (++this->round == 0)
		{
			this->round = 1;
			std::memset(this->table.get(), 0, TableSize * sizeof(Place));
		}
	}

	void UdpSendBatch::SendSocket(Socket& socket)
	{
		const size_t all = PrepareMessages(socket);
		size_t at{ 0 };

		while (at < all)
		{
			const auto& group = this->groups[this->messageGroups[at]];

			if (!this->usable || socket.HasSendQueue() || (group.size > 1 && !socket.gso))
			{
				SendSingly(group);
				++at;

				continue;
			}

			const int sent = this->sendMmsg(
			  socket.fd, this->messages.get() + at, static_cast<unsigned int>(all - at), MSG_DONTWAIT);

			if (sent > 0)
			{
				for (int i{ 0 }; i < sent; ++i, ++at)
				{
					Taken(this->groups[this->messageGroups[at]]);
				}

				continue;
			}

			const int error = errno;

			if (error == EINTR)
			{
				continue;
			}

			if (error == ENOSYS)
			{
				this->usable = false;
			}
			else if (group.size > 1 && IsRefusal(error) && ++socket.refusals >= MaxRefusals)
			{
				socket.gso = false;
			}

			SendSingly(group);
			++at;
		}
	}

	// Describe the groups of a socket to the kernel.
	size_t UdpSendBatch::PrepareMessages(const Socket& socket)
	{
		size_t all{ 0 };
		size_t vector{ 0 };

		for (uint16_t number = socket.firstGroup; number != None; number = this->groups[number].nextOfSocket, ++all)
		{
			const auto& group = this->groups[number];
			auto& first       = this->datagrams[group.first];
			auto& message     = this->messages[all];

			this->messageGroups[all] = number;

			message                     = {};
			message.msg_hdr.msg_name    = &first.addr;
			message.msg_hdr.msg_namelen = LengthOf(&first.addr.any);
			message.msg_hdr.msg_iov     = this->vectors.get() + vector;
			message.msg_hdr.msg_iovlen  = group.size;

			for (uint16_t i = group.first; i != None; i = this->datagrams[i].next)
			{
				this->vectors[vector++] = { this->datagrams[i].data, this->datagrams[i].len };
			}

			if (group.size > 1)
			{
				const auto segment = static_cast<uint16_t>(group.segment);

				message.msg_hdr.msg_control    = this->controls[all].bytes;
				message.msg_hdr.msg_controllen = sizeof(this->controls[all].bytes);

				auto* header       = CMSG_FIRSTHDR(&message.msg_hdr);
				header->cmsg_level = IPPROTO_UDP;
				header->cmsg_type  = UDP_SEGMENT;
				header->cmsg_len   = CMSG_LEN(sizeof(segment));

				std::memcpy(CMSG_DATA(header), &segment, sizeof(segment));
			}
		}

		return all;
	}

	void UdpSendBatch::Taken(const Group& group)
	{
		auto& socket = *this->datagrams[group.first].socket;

		if (group.size > 1)
		{
			socket.refusals = 0;
		}

		socket.OnBatchSent(group.bytes);

		for (uint16_t i = group.first; i != None; i = this->datagrams[i].next)
		{
			if (auto* cb = this->datagrams[i].cb)
			{
				this->done.push_back(Done{ &socket, std::unique_ptr<Callback>(cb), true });
			}
		}
	}

	void UdpSendBatch::SendSingly(const Group& group)
	{
		auto* socket = this->datagrams[group.first].socket;

		for (uint16_t i = group.first; i != None; i = this->datagrams[i].next)
		{
			const auto& datagram = this->datagrams[i];
			Callback* cb{ nullptr };

			// SendNow() may call back before it returns, when nothing may be added yet: keep the answer then.
			if (datagram.cb)
			{
				auto owned = std::make_shared<std::unique_ptr<Callback>>(datagram.cb);

				cb = new Callback(
				  [this, socket, owned](bool sent)
				  {
					  if (this->sending)
					  {
						  this->done.push_back(Done{ socket, std::move(*owned), sent });
					  }
					  else
					  {
						  (**owned)(sent);
					  }
				  });
			}

			socket->SendNow(datagram.data, datagram.len, &datagram.addr.any, cb);
		}
	}

	void UdpSendBatch::RunCallbacks()
	{
		if (this->done.empty())
		{
			return;
		}

		// What is called may send, and so come here again.
		auto ready = std::exchange(this->done, {});

		for (auto& it : ready)
		{
			(*it.cb)(it.sent);
		}
	}

	void UdpSendBatch::Close(Socket& socket)
	{
		Send();

		socket.fd = -1;

		std::erase_if(this->done, [&socket](const Done& it) { return it.socket == &socket; });
	}
} // namespace mafalda
