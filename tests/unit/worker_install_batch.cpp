// The worker's UDP batch: real sockets on loopback, and a kernel that refuses what it is told to refuse.
// Prints the number of checks; leaves with 1 at the first one that fails.

#include "handles/UdpSendBatch.hpp"
#include <arpa/inet.h>
#include <netinet/udp.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <random>
#include <string>
#include <vector>

using mafalda::UdpSendBatch;
using Bytes = std::vector<uint8_t>;

static int checks{ 0 };

#define CHECK(condition) \
	do \
	{ \
		++checks; \
		if (!(condition)) \
		{ \
			std::printf("%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			std::exit(1); \
		} \
	} while (false)

static sockaddr_in V4(uint16_t port)
{
	sockaddr_in addr{};

	addr.sin_family      = AF_INET;
	addr.sin_port        = htons(port);
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

	return addr;
}

static sockaddr_in6 V6(uint16_t port)
{
	sockaddr_in6 addr{};

	addr.sin6_family = AF_INET6;
	addr.sin6_port   = htons(port);
	addr.sin6_addr   = in6addr_loopback;

	return addr;
}

static const sockaddr* Any(const auto& addr)
{
	return reinterpret_cast<const sockaddr*>(&addr);
}

static uint16_t PortOf(const sockaddr* addr)
{
	return ntohs(
	  addr->sa_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6*>(addr)->sin6_port
	                              : reinterpret_cast<const sockaddr_in*>(addr)->sin_port);
}

// What the kernel, real or not, has taken: in order, by descriptor and port.
struct Kernel
{
	std::map<std::pair<int, uint16_t>, std::vector<Bytes>> taken;
	std::vector<size_t> messages; // Messages of each call.
	std::vector<size_t> segments; // Datagrams of each message that was taken.
	std::deque<int> errors;       // Answers to the next messages; 0 takes one.
	int gsoError{ 0 };            // Answer to each GSO message.
	size_t most{ SIZE_MAX };      // Messages taken by one call.
};

static Kernel kernel;

static bool Take(int fd, mmsghdr& message)
{
	const auto& header  = message.msg_hdr;
	const auto* control = CMSG_FIRSTHDR(&header);
	int error{ 0 };

	if (!kernel.errors.empty())
	{
		error = kernel.errors.front();
		kernel.errors.pop_front();
	}

	if (error == 0 && control != nullptr)
	{
		error = kernel.gsoError;
	}

	if (error != 0)
	{
		errno = error;

		return false;
	}

	CHECK((control != nullptr) == (header.msg_iovlen > 1));

	size_t bytes{ 0 };

	for (size_t i{ 0 }; i < header.msg_iovlen; ++i)
	{
		const auto& part  = header.msg_iov[i];
		const auto* begin = static_cast<const uint8_t*>(part.iov_base);

		kernel.taken[{ fd, PortOf(static_cast<sockaddr*>(header.msg_name)) }].emplace_back(begin, begin + part.iov_len);
		bytes += part.iov_len;

		if (control != nullptr)
		{
			uint16_t segment{ 0 };

			std::memcpy(&segment, CMSG_DATA(control), sizeof(segment));

			// As the kernel cuts it: all are of the segment's size, but for a shorter last one.
			CHECK(part.iov_len == segment || (i + 1 == header.msg_iovlen && part.iov_len < segment));
		}
	}

	CHECK(bytes <= 65487);
	CHECK(header.msg_iovlen <= 64);
	kernel.segments.push_back(header.msg_iovlen);

	return true;
}

static int FakeSendMmsg(int fd, mmsghdr* messages, unsigned int count, int flags)
{
	CHECK(flags == MSG_DONTWAIT);
	kernel.messages.push_back(count);

	unsigned int done{ 0 };

	while (done < count && done < kernel.most && Take(fd, messages[done]))
	{
		++done;
	}

	return done > 0 ? static_cast<int>(done) : -1;
}

// As UdpSocketHandle, with a queue that the test empties.
class Socket : public UdpSendBatch::Socket
{
public:
	explicit Socket(int fd) : fd(fd)
	{
		EnableBatch(fd);
	}

	bool HasSendQueue() const override
	{
		return !this->queue.empty();
	}

	void SendNow(const uint8_t* data, size_t len, const sockaddr* addr, UdpSendBatch::Callback* cb) override
	{
		++this->single;

		if (HasSendQueue() || this->full)
		{
			this->queue.push_back({ Bytes(data, data + len), PortOf(addr), cb });

			return;
		}

		kernel.taken[{ this->fd, PortOf(addr) }].emplace_back(data, data + len);

		if (cb)
		{
			(*cb)(true);
			delete cb;
		}
	}

	void OnBatchSent(size_t bytes) override
	{
		this->sentBytes += bytes;
	}

	void Drain(bool sent = true)
	{
		while (!this->queue.empty())
		{
			auto it = this->queue.front();

			this->queue.pop_front();

			if (sent)
			{
				kernel.taken[{ this->fd, it.port }].push_back(it.bytes);
			}

			if (it.cb)
			{
				(*it.cb)(sent);
				delete it.cb;
			}
		}
	}

public:
	int fd;
	bool full{ false };
	size_t single{ 0 };
	size_t sentBytes{ 0 };

private:
	struct Queued
	{
		Bytes bytes;
		uint16_t port;
		UdpSendBatch::Callback* cb;
	};

	std::deque<Queued> queue;
};

// An open UDP socket, for what EnableBatch() asks the kernel.
struct Descriptor
{
	int fd{ ::socket(AF_INET, SOCK_DGRAM, 0) };

	~Descriptor()
	{
		::close(this->fd);
	}
};

static Bytes Numbered(uint32_t number, size_t len)
{
	Bytes bytes(len, static_cast<uint8_t>(number));

	std::memcpy(bytes.data(), &number, std::min(len, sizeof(number)));

	return bytes;
}

static void Add(
  UdpSendBatch& batch, Socket& socket, const Bytes& bytes, const sockaddr* addr, UdpSendBatch::Callback* cb = nullptr)
{
	if (!batch.Add(socket, bytes.data(), bytes.size(), addr, cb))
	{
		socket.SendNow(bytes.data(), bytes.size(), addr, cb);
	}
}

static void RunsOfOneDestinationAreOneMessage()
{
	kernel = {};

	Descriptor a;
	Descriptor b;
	Socket one(a.fd);
	Socket other(b.fd);
	UdpSendBatch batch(FakeSendMmsg);
	const auto x = V4(1000);
	const auto y = V4(2000);

	for (const auto len : { 1200, 1200, 700, 1200 }) // The shorter one ends a message.
	{
		Add(batch, one, Numbered(0, len), Any(x));
		Add(batch, other, Numbered(0, len), Any(x));
	}

	Add(batch, one, Numbered(0, 1200), Any(y));

	CHECK(kernel.taken.empty());
	batch.Send();
	CHECK((kernel.messages == std::vector<size_t>{ 3, 2 })); // A call for each socket.
	CHECK((kernel.segments == std::vector<size_t>{ 3, 1, 1, 3, 1 }));
	CHECK((kernel.taken[{ a.fd, 1000 }].size() == 4));
	CHECK((kernel.taken[{ a.fd, 2000 }].size() == 1));
	CHECK((one.sentBytes == 1200 * 4 + 700));
	CHECK(one.single == 0);
	batch.Send();
	CHECK(kernel.messages.size() == 2);
}

static void MessagesKeepTheKernelsBounds()
{
	kernel = {};

	Descriptor a;
	Socket socket(a.fd);
	UdpSendBatch batch(FakeSendMmsg);
	const auto x = V6(1000);

	for (uint32_t i{ 0 }; i < 200; ++i)
	{
		Add(batch, socket, Numbered(i, i < 100 ? 500 : 1400), Any(x));
	}

	batch.Send();
	// 64 segments, the 36 others (the larger ones do not follow smaller ones), then what 65,487 bytes hold.
	CHECK((kernel.segments == std::vector<size_t>{ 64, 36, 46, 46, 8 }));

	const auto& taken = kernel.taken[{ a.fd, 1000 }];

	for (uint32_t i{ 0 }; i < 200; ++i)
	{
		CHECK(taken[i] == Numbered(i, i < 100 ? 500 : 1400));
	}
}

static void TheBatchIsBounded()
{
	kernel = {};

	Descriptor a;
	Socket socket(a.fd);
	UdpSendBatch batch(FakeSendMmsg);
	const auto x = V4(1000);

	auto& taken  = kernel.taken[{ a.fd, 1000 }];

	for (size_t i{ 0 }; i <= UdpSendBatch::MaxDatagrams; ++i)
	{
		Add(batch, socket, Numbered(i, 1000), Any(x));
	}

	CHECK(taken.size() == UdpSendBatch::MaxDatagrams);
	batch.Send();
	taken.clear();

	for (size_t i{ 1 }; i < UdpSendBatch::MaxSmallDatagrams; ++i)
	{
		Add(batch, socket, Numbered(i, 100), Any(x));
	}

	CHECK(taken.empty());
	Add(batch, socket, Numbered(0, 100), Any(x));
	CHECK(taken.size() == UdpSendBatch::MaxSmallDatagrams);
	taken.clear();

	const size_t fit = UdpSendBatch::MaxBytes / 60000;

	for (size_t i{ 0 }; i <= fit; ++i)
	{
		Add(batch, socket, Numbered(i, 60000), Any(x));
	}

	CHECK(taken.size() == fit);

	// Larger than the batch: the caller sends it, after what came before.
	Add(batch, socket, Bytes(UdpSendBatch::MaxBytes + 1), Any(x));
	CHECK(taken.size() == fit + 2);
	CHECK(taken.back().size() == UdpSendBatch::MaxBytes + 1);
	CHECK(batch.Reserve(UdpSendBatch::MaxBytes + 1) == nullptr);
}

static void WhatIsWrittenIntoReservedRoomIsNotCopied()
{
	kernel = {};

	Descriptor a;
	Socket socket(a.fd);
	UdpSendBatch batch(FakeSendMmsg);
	const auto x = V4(1000);

	for (uint32_t i{ 0 }; i < 5000; ++i)
	{
		auto* room = batch.Reserve(1344);

		CHECK(room != nullptr);
		CHECK(reinterpret_cast<uintptr_t>(room) % 16 == 0);

		const auto bytes = Numbered(i, 1200 + i % 3);

		std::memset(room, 0xEE, 1344);
		std::memcpy(room, bytes.data(), bytes.size());

		if (i % 7 != 0) // Room may also stay unused.
		{
			CHECK(batch.Add(socket, room, bytes.size(), Any(x), nullptr));
		}
	}

	batch.Send();

	uint32_t i{ 0 };

	for (const auto& bytes : kernel.taken[{ a.fd, 1000 }])
	{
		i += i % 7 == 0;
		CHECK(bytes == Numbered(i, 1200 + i % 3));
		++i;
	}
}

static void RefusedMessagesGoOneByOneAndASocketThatAlwaysRefusesIsAskedNoMore()
{
	for (const int error : { EIO, EINVAL, EMSGSIZE, EOPNOTSUPP })
	{
		kernel = {};

		Descriptor a;
		Descriptor b;
		Socket refusing(a.fd);
		Socket fine(b.fd);
		UdpSendBatch batch(FakeSendMmsg);
		const auto x = V4(1000);
		uint32_t number{ 0 };

		const auto round = [&](Socket& socket, int gsoError)
		{
			kernel.gsoError = gsoError;
			Add(batch, socket, Numbered(number, 1200), Any(x));
			Add(batch, socket, Numbered(number + 1, 1200), Any(x));
			number += 2;
			batch.Send();
		};

		for (int i{ 0 }; i < UdpSendBatch::MaxRefusals - 1; ++i)
		{
			round(refusing, error);
		}

		round(refusing, 0); // It takes one: the count starts anew.
		CHECK(kernel.segments.back() == 2);

		for (int i{ 0 }; i < UdpSendBatch::MaxRefusals; ++i)
		{
			round(refusing, error);
		}

		CHECK(refusing.single == 2 * (2 * UdpSendBatch::MaxRefusals - 1));
		round(refusing, 0);
		CHECK(kernel.segments.back() == 1); // Two messages of one datagram.
		CHECK(refusing.single == 2 * (2 * UdpSendBatch::MaxRefusals - 1));

		const auto& taken = kernel.taken[{ a.fd, 1000 }];

		for (uint32_t i{ 0 }; i < number; ++i)
		{
			CHECK(taken[i] == Numbered(i, 1200));
		}

		round(fine, 0); // Another socket goes on.
		CHECK(kernel.segments.back() == 2);
	}
}

static void OtherErrorsDoNotCountAsRefusals()
{
	kernel = {};

	Descriptor a;
	Socket socket(a.fd);
	UdpSendBatch batch(FakeSendMmsg);
	const auto x = V4(1000);

	for (int i{ 0 }; i < 3 * UdpSendBatch::MaxRefusals; ++i)
	{
		kernel.errors = { i % 2 == 0 ? EPERM : ENETUNREACH };
		Add(batch, socket, Numbered(0, 1200), Any(x));
		Add(batch, socket, Numbered(1, 1200), Any(x));
		batch.Send();
	}

	CHECK(socket.single == 6 * UdpSendBatch::MaxRefusals);
	Add(batch, socket, Numbered(0, 1200), Any(x));
	Add(batch, socket, Numbered(1, 1200), Any(x));
	batch.Send();
	CHECK(kernel.segments.back() == 2);
}

static void AFullSocketQueuesInOrder()
{
	for (const int error : { EAGAIN, ENOBUFS })
	{
		kernel = {};

		Descriptor a;
		Socket socket(a.fd);
		UdpSendBatch batch(FakeSendMmsg);
		const auto x = V4(1000);
		const auto y = V4(2000);

		kernel.errors = { 0, error, error };
		socket.full   = true;

		for (uint32_t i{ 0 }; i < 4; ++i)
		{
			Add(batch, socket, Numbered(i, 1200), Any(x));
			Add(batch, socket, Numbered(i, 1200), Any(y));
		}

		batch.Send();
		CHECK((kernel.taken[{ a.fd, 1000 }].size() == 4));
		CHECK((kernel.taken[{ a.fd, 2000 }].empty()));

		// The kernel has room again, but what is queued goes first.
		socket.full = false;
		Add(batch, socket, Numbered(4, 1200), Any(x));
		Add(batch, socket, Numbered(4, 1200), Any(y));
		batch.Send();
		CHECK((kernel.taken[{ a.fd, 1000 }].size() == 4));
		socket.Drain();
		Add(batch, socket, Numbered(5, 1200), Any(y));
		batch.Send();

		for (uint32_t i{ 0 }; i < 6; ++i)
		{
			CHECK((i == 5 || kernel.taken[{ a.fd, 1000 }][i] == Numbered(i, 1200)));
			CHECK((kernel.taken[{ a.fd, 2000 }][i] == Numbered(i, 1200)));
		}
	}
}

static void AKernelWithoutSendmmsgIsAskedOnce()
{
	kernel = {};

	Descriptor a;
	Socket socket(a.fd);
	UdpSendBatch batch(FakeSendMmsg);
	const auto x = V4(1000);

	kernel.errors = { ENOSYS };
	Add(batch, socket, Numbered(0, 10), Any(x));
	batch.Send();
	Add(batch, socket, Numbered(1, 10), Any(x));
	CHECK(kernel.messages.size() == 1);
	CHECK((kernel.taken[{ a.fd, 1000 }] == std::vector<Bytes>{ Numbered(0, 10), Numbered(1, 10) }));
	CHECK(batch.Reserve(10) == nullptr);
}

static void WhatIsInterruptedIsTriedAgain()
{
	kernel = {};

	Descriptor a;
	Socket socket(a.fd);
	UdpSendBatch batch(FakeSendMmsg);
	const auto x = V4(1000);

	kernel.errors = { EINTR, EINTR };
	Add(batch, socket, Numbered(0, 10), Any(x));
	batch.Send();
	CHECK(kernel.messages.size() == 3);
	CHECK(socket.single == 0);
}

static void CallbacksFireOnceWhenTheKernelHasTakenTheDatagram()
{
	kernel = {};

	Descriptor a;
	Socket socket(a.fd);
	UdpSendBatch batch(FakeSendMmsg);
	const auto x = V4(1000);
	std::string said;

	const auto cb = [&said](char name)
	{ return new UdpSendBatch::Callback([&said, name](bool sent) { (said += name) += sent ? '+' : '-'; }); };

	Add(batch, socket, Numbered(0, 1200), Any(x), cb('a'));
	Add(batch, socket, Numbered(1, 1200), Any(x), cb('b'));
	batch.RunCallbacks();
	CHECK(said.empty());
	CHECK(!batch.IsEmpty());
	batch.Send();
	CHECK(said.empty());
	batch.RunCallbacks();
	CHECK(said == "a+b+");
	CHECK(batch.IsEmpty());
	batch.RunCallbacks();
	CHECK(said == "a+b+");

	// Refused, then sent one by one: the answer waits as well.
	kernel.gsoError = EIO;
	Add(batch, socket, Numbered(0, 1200), Any(x), cb('c'));
	Add(batch, socket, Numbered(1, 1200), Any(x), cb('d'));
	batch.Send();
	CHECK(said == "a+b+");
	batch.RunCallbacks();
	CHECK(said == "a+b+c+d+");

	// Queued: when the queue is through with it, whichever way.
	kernel.errors = { EAGAIN };
	socket.full   = true;
	Add(batch, socket, Numbered(0, 1200), Any(x), cb('e'));
	batch.Send();
	batch.RunCallbacks();
	CHECK(said == "a+b+c+d+");
	socket.Drain(false);
	CHECK(said == "a+b+c+d+e-");
	socket.full = false;

	// A callback that sends: its datagram is in the batch for the next time.
	Add(
	  batch,
	  socket,
	  Numbered(0, 1200),
	  Any(x),
	  new UdpSendBatch::Callback([&](bool) { Add(batch, socket, Numbered(9, 1200), Any(x), cb('f')); }));
	batch.Send();
	batch.RunCallbacks();
	CHECK(!batch.IsEmpty());
	batch.Send();
	batch.RunCallbacks();
	CHECK(said == "a+b+c+d+e-f+");
	CHECK((kernel.taken[{ a.fd, 1000 }].back() == Numbered(9, 1200)));
}

static void AClosedSocketHasSentAllAndIsCalledNoMore()
{
	kernel = {};

	Descriptor a;
	Descriptor b;
	Socket closing(a.fd);
	Socket other(b.fd);
	UdpSendBatch batch(FakeSendMmsg);
	const auto x = V4(1000);
	int called{ 0 };

	const auto cb = [&called] { return new UdpSendBatch::Callback([&called](bool) { ++called; }); };

	Add(batch, closing, Numbered(0, 1200), Any(x), cb());
	Add(batch, other, Numbered(0, 1200), Any(x), cb());
	batch.Close(closing);
	CHECK((kernel.taken[{ a.fd, 1000 }].size() == 1));
	CHECK((kernel.taken[{ b.fd, 1000 }].size() == 1));
	CHECK(called == 0); // Not while something is being destroyed.
	batch.RunCallbacks();
	CHECK(called == 1);
	CHECK(!batch.Add(closing, Numbered(0, 10).data(), 10, Any(x), nullptr));

	// What is still kept when the batch ends is freed.
	Add(batch, other, Numbered(0, 1200), Any(x), cb());
}

static void WhateverFailsNothingIsLostReorderedOrSentTwice()
{
	std::mt19937 random(20);

	const auto below = [&random](uint32_t bound) { return random() % bound; };

	for (int round{ 0 }; round < 60; ++round)
	{
		kernel = {};

		Descriptor descriptors[3];
		std::deque<Socket> sockets;

		for (const auto& it : descriptors)
		{
			sockets.emplace_back(it.fd);
		}

		UdpSendBatch batch(FakeSendMmsg);
		std::map<std::pair<int, uint16_t>, std::vector<Bytes>> wanted;
		size_t answers{ 0 };
		size_t asked{ 0 };

		for (uint32_t i{ 0 }; i < 3000; ++i)
		{
			auto& socket        = sockets[below(3)];
			const uint16_t port = 1000 + below(5);
			const auto v4       = V4(port);
			const auto v6       = V6(port);
			const auto bytes    = Numbered(i, below(4) == 0 ? 4 + below(1400) : 1200);
			auto* cb            = below(2) == 0 ? new UdpSendBatch::Callback([&answers](bool) { ++answers; }) : nullptr;

			asked += cb != nullptr;
			wanted[{ socket.fd, port }].push_back(bytes);
			Add(batch, socket, bytes, port % 2 == 0 ? Any(v4) : Any(v6), cb);

			if (below(100) == 0)
			{
				kernel.gsoError = below(3) == 0 ? EIO : 0;
				kernel.most     = 1 + below(4);

				for (uint32_t k = below(4); k > 0; --k)
				{
					constexpr int Errors[]{ 0, EAGAIN, EINVAL, EPERM, EINTR };

					kernel.errors.push_back(Errors[below(5)]);
				}

				sockets[below(3)].full = below(2) == 0;
				batch.Send();

				if (below(2) == 0)
				{
					batch.RunCallbacks();
				}
			}

			if (below(200) == 0)
			{
				for (auto& it : sockets)
				{
					it.full = false;
					it.Drain();
				}
			}
		}

		kernel.errors.clear();
		batch.Send();

		for (auto& it : sockets)
		{
			it.full = false;
			it.Drain();
		}

		batch.RunCallbacks();
		CHECK(kernel.taken == wanted);
		CHECK(answers == asked);
	}
}

static Bytes Received(int fd)
{
	uint8_t buffer[65536];
	const auto len = ::recv(fd, buffer, sizeof(buffer), 0);

	CHECK(len > 0);

	return Bytes(buffer, buffer + len);
}

// The kernel of this machine, over IPv4 and, if there is one, IPv6.
static void TheRealKernelDeliversWhatWasAdded(int family)
{
	kernel = {};

	const int from = ::socket(family, SOCK_DGRAM, 0);
	const int to   = ::socket(family, SOCK_DGRAM, 0);
	const auto v4  = V4(0);
	const auto v6  = V6(0);
	const auto len = static_cast<socklen_t>(family == AF_INET6 ? sizeof(v6) : sizeof(v4));
	sockaddr_storage addr{};
	socklen_t addrLen{ sizeof(addr) };
	const timeval patience{ 10, 0 };

	if (from < 0 || ::bind(to, family == AF_INET6 ? Any(v6) : Any(v4), len) != 0)
	{
		CHECK(family == AF_INET6); // A machine may have no IPv6.

		return;
	}

	CHECK(::getsockname(to, reinterpret_cast<sockaddr*>(&addr), &addrLen) == 0);
	CHECK(::setsockopt(to, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);

	Socket socket(from);
	UdpSendBatch batch;
	uint32_t number{ 0 };

	for (const size_t size : { 1200, 1200, 1200, 700, 1200, 30, 1200, 1201, 60000 })
	{
		Add(batch, socket, Numbered(number++, size), Any(addr));
	}

	batch.Send();
	CHECK(socket.single == 0);
	number = 0;

	for (const size_t size : { 1200, 1200, 1200, 700, 1200, 30, 1200, 1201, 60000 })
	{
		CHECK(Received(to) == Numbered(number++, size));
	}

	::close(from);
	::close(to);
}

int main()
{
	RunsOfOneDestinationAreOneMessage();
	MessagesKeepTheKernelsBounds();
	TheBatchIsBounded();
	WhatIsWrittenIntoReservedRoomIsNotCopied();
	RefusedMessagesGoOneByOneAndASocketThatAlwaysRefusesIsAskedNoMore();
	OtherErrorsDoNotCountAsRefusals();
	AFullSocketQueuesInOrder();
	AKernelWithoutSendmmsgIsAskedOnce();
	WhatIsInterruptedIsTriedAgain();
	CallbacksFireOnceWhenTheKernelHasTakenTheDatagram();
	AClosedSocketHasSentAllAndIsCalledNoMore();
	WhateverFailsNothingIsLostReorderedOrSentTwice();
	TheRealKernelDeliversWhatWasAdded(AF_INET);
	TheRealKernelDeliversWhatWasAdded(AF_INET6);
	std::printf("%d checks\n", checks);
}
