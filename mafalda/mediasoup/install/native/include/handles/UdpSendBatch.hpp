// SPDX-License-Identifier: Apache-2.0
//
// The datagrams of one event loop iteration, sent with few system calls. Written for Mafalda.
//
// Add() keeps a datagram, Send() hands all kept ones to the kernel: those that go from one socket to one
// destination as one UDP GSO message (UDP_SEGMENT), all messages of one socket by one sendmmsg(). Datagrams
// of one socket to one destination leave in the order in which they were added.
//
// What the kernel refuses is sent datagram by datagram with Socket::SendNow(), which is what the worker does
// without a batch; a socket that refuses GSO again and again is not offered it any more.
//
// What does not belong here: when to send (UdpSendBatchLoop) and libuv (UdpSocketHandle).

#ifndef MAFALDA_UDP_SEND_BATCH_HPP
#define MAFALDA_UDP_SEND_BATCH_HPP

#include <netinet/in.h>
#include <sys/socket.h>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace mafalda
{
	class UdpSendBatch
	{
	public:
		// Called with true once the kernel has taken the datagram, with false if it will not. Owned by the batch
		// from Add() on.
		using Callback = const std::function<void(bool sent)>;

		// As sendmmsg(); tests pass others.
		using SendMmsg = int (*)(int fd, struct mmsghdr* messages, unsigned int count, int flags);

		// A UDP socket whose datagrams are batched.
		class Socket
		{
		public:
			virtual ~Socket() = default;

		public:
			// Whether datagrams wait in the socket's own queue, in front of which nothing may be sent.
			virtual bool HasSendQueue() const = 0;
			// Send one datagram at once, or queue it. Takes the callback over.
			virtual void SendNow(
			  const uint8_t* data, size_t len, const struct sockaddr* addr, Callback* cb) = 0;
			// The kernel took this many bytes of the socket's datagrams from the batch.
			virtual void OnBatchSent(size_t bytes) = 0;

		protected:
			// Let the batch send through this descriptor, and find out whether the kernel has GSO for it.
			void EnableBatch(int fd);

		private:
			friend class UdpSendBatch;

			int fd{ -1 };
			bool gso{ false };
			// GSO messages refused since the last one that was taken.
			uint8_t refusals{ 0 };
			// Its groups in the batch, if it has some there: valid in the batch's round of this number.
			uint32_t round{ 0 };
			uint16_t firstGroup{ 0 };
			uint16_t lastGroup{ 0 };
		};

	public:
		// Bounds of what is held back.
		static constexpr size_t MaxDatagrams{ 2048 };
		static constexpr size_t MaxBytes{ 2 * 1024 * 1024 };
		// Small datagrams are no parts of a video frame, of which more will follow: fewer of them are held back.
		static constexpr size_t SmallBytes{ 400 };
		static constexpr size_t MaxSmallDatagrams{ 64 };
		// The kernel's bounds of one GSO message: segments (UDP_MAX_SEGMENTS) and the payload of an IPv6 packet.
		static constexpr size_t MaxSegments{ 64 };
		static constexpr size_t MaxMessageBytes{ 65535 - 40 - 8 };
		// A socket that refuses so many GSO messages in a row gets none any more.
		static constexpr uint8_t MaxRefusals{ 8 };

	public:
		explicit UdpSendBatch(SendMmsg sendMmsg = ::sendmmsg);
		UdpSendBatch(const UdpSendBatch&)            = delete;
		UdpSendBatch& operator=(const UdpSendBatch&) = delete;
		~UdpSendBatch();

	public:
		// Room for a datagram of up to this many bytes, where Add() needs no copy; nullptr if it is too large. Valid
		// until the next call of any method.
		uint8_t* Reserve(size_t len);
		// Keep a datagram. If this returns false the caller sends it itself, with nothing left in front of it; the
		// callback is the caller's then.
		bool Add(
		  Socket& socket, const uint8_t* data, size_t len, const struct sockaddr* addr, Callback* cb);
		// Send all that is kept. The callbacks wait for RunCallbacks().
		void Send();
		// Call the callbacks of what was sent. They may add datagrams.
		void RunCallbacks();
		// Send all that is kept; then forget the socket, and the callbacks of its datagrams without calling them.
		void Close(Socket& socket);
		bool IsEmpty() const
		{
			return this->count == 0 && this->done.empty();
		}

	private:
		static constexpr uint16_t None{ UINT16_MAX };
		static constexpr size_t TableSize{ MaxDatagrams * 4 };

		// A destination's address with nothing undefined in it.
		union Address
		{
			struct sockaddr any;
			struct sockaddr_in v4;
			struct sockaddr_in6 v6;
		};

		struct Datagram
		{
			Socket* socket;
			Callback* cb;
			uint8_t* data;
			uint32_t len;
			// The next one of its group.
			uint16_t next;
			Address addr;
		};

		// Datagrams from one socket to one destination: all of one length, but for a shorter last one. One message.
		struct Group
		{
			uint16_t first;
			uint16_t last;
			uint16_t size;
			uint16_t nextOfSocket;
			uint32_t segment;
			uint32_t bytes;
			// The last one is shorter.
			bool complete;
		};

		// The latest group of a destination; valid in the round of this number.
		struct Place
		{
			uint32_t round;
			uint16_t group;
		};

		struct alignas(struct cmsghdr) Control
		{
			uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
		};

		struct Done
		{
			Socket* socket;
			std::unique_ptr<Callback> cb;
			bool sent;
		};

		void PutIntoGroup(uint16_t index);
		bool IsFull(size_t len) const
		{
			return this->count == MaxDatagrams || this->used + len > MaxBytes;
		}
		Place& FindPlace(const Datagram& datagram);
		void OpenGroup(Place& place, uint16_t index);
		void SendSocket(Socket& socket);
		size_t PrepareMessages(const Socket& socket);
		void Taken(const Group& group);
		void SendSingly(const Group& group);

	private:
		SendMmsg sendMmsg;
		bool usable{ true };
		bool sending{ false };
		uint32_t round{ 1 };
		size_t count{ 0 };
		size_t used{ 0 };
		size_t groupCount{ 0 };
		std::vector<Socket*> sockets;
		std::vector<Done> done;
		// Not initialised: only what was used costs memory.
		std::unique_ptr<uint8_t[]> bytes;
		std::unique_ptr<Datagram[]> datagrams;
		std::unique_ptr<Group[]> groups;
		std::unique_ptr<Place[]> table;
		std::unique_ptr<struct mmsghdr[]> messages;
		std::unique_ptr<uint16_t[]> messageGroups;
		std::unique_ptr<struct iovec[]> vectors;
		std::unique_ptr<Control[]> controls;
	};
} // namespace mafalda

#endif
