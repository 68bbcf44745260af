// SPDX-License-Identifier: Apache-2.0
//
// The hash table of an SRTP session's streams does what a standard map does, under random insertions and removals.

#undef NDEBUG
#include <cassert>
#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include "stream_list_priv.h"

using Streams = std::map<uint32_t, std::unique_ptr<srtp_stream_ctx_t_>>;

struct Visit
{
	srtp_stream_list_t list;
	Streams* streams;
	std::map<uint32_t, int> seen;
	bool remove;
	int stopAfter;
};

static int visit(srtp_stream_t stream, void* data)
{
	auto& it = *static_cast<Visit*>(data);

	it.seen[stream->ssrc]++;

	if (it.remove && stream->ssrc % 2 == 0)
	{
		srtp_stream_list_remove(it.list, stream);
		it.streams->erase(stream->ssrc);
	}

	return --it.stopAfter == 0;
}

static void checkAll(srtp_stream_list_t list, Streams& streams, bool remove)
{
	const size_t size = streams.size();
	Visit all{ list, &streams, {}, remove, -1 };

	srtp_stream_list_for_each(list, visit, &all);

	assert(all.seen.size() == size);

	for (const auto& [ssrc, times] : all.seen)
	{
		assert(times == 1);
		assert((srtp_stream_list_get(list, ssrc) != nullptr) == (streams.count(ssrc) == 1));
	}
}

int main()
{
	std::mt19937 random{ 1 };
	// Numbers in a row, in steps that share their low bits, and anywhere.
	const uint32_t steps[]{ 1, 1U << 16U, 1U << 28U, 2654435761U };
	size_t checks{ 0 };

	for (const auto step : steps)
	{
		srtp_stream_list_t list{ nullptr };
		Streams streams;

		assert(srtp_stream_list_alloc(&list) == srtp_err_status_ok);

		for (int i{ 0 }; i < 5000; ++i, ++checks)
		{
			const uint32_t ssrc = random() % 300 * step;
			const auto known    = streams.find(ssrc);

			assert(srtp_stream_list_get(list, ssrc) == (known == streams.end() ? nullptr : known->second.get()));

			if (known == streams.end())
			{
				auto stream = std::make_unique<srtp_stream_ctx_t_>(srtp_stream_ctx_t_{ ssrc, nullptr, nullptr });

				assert(srtp_stream_list_insert(list, stream.get()) == srtp_err_status_ok);
				streams[ssrc] = std::move(stream);
			}
			else if (random() % 2 == 0)
			{
				srtp_stream_list_remove(list, known->second.get());
				streams.erase(known);
			}
		}

		checkAll(list, streams, false);

		Visit first{ list, &streams, {}, false, 1 };

		srtp_stream_list_for_each(list, visit, &first);
		assert(first.seen.size() == 1);
		assert(srtp_stream_list_dealloc(list) == srtp_err_status_fail); // not empty

		checkAll(list, streams, true);

		while (!streams.empty())
		{
			srtp_stream_list_remove(list, streams.begin()->second.get());
			streams.erase(streams.begin());
		}

		assert(srtp_stream_list_dealloc(list) == srtp_err_status_ok);
	}

	std::printf("%zu checks\n", checks);
}
