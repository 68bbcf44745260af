// SPDX-License-Identifier: Apache-2.0

#include "handles/UdpSendBatchLoop.hpp"
#include "DepLibUV.hpp"
#include "handles/UdpSendBatchDefault.hpp"
#include <uv.h>
#include <cstdlib>
#include <memory>
#include <string_view>

namespace mafalda::UdpSendBatchLoop
{
	struct State
	{
		UdpSendBatch batch;
		uv_prepare_t prepare{};
	};

	static constexpr const char* Variable{ "MAFALDA_UDP_BATCH" };

	static thread_local bool asked{ false };
	static thread_local State* state{ nullptr };

	// libuv runs this after the timers, and before it waits for descriptors.
	static void OnPrepare(uv_prepare_t* /*handle*/)
	{
		// What callbacks add must not wait for the next iteration.
		while (!state->batch.IsEmpty())
		{
			state->batch.Send();
			state->batch.RunCallbacks();
		}
	}

	static void OnClose(uv_handle_t* handle)
	{
		delete static_cast<State*>(handle->data);
	}

	static bool IsWanted()
	{
		const char* value = std::getenv(Variable);

		return value ? std::string_view(value) != "off" : UdpSendBatchByDefault;
	}

	static State* Open()
	{
		if (!IsWanted())
		{
			return nullptr;
		}

		auto opened = std::make_unique<State>();

		if (uv_prepare_init(DepLibUV::GetLoop(), &opened->prepare) != 0)
		{
			return nullptr;
		}

		opened->prepare.data = opened.get();

		uv_prepare_start(&opened->prepare, OnPrepare);
		// The loop ends when nothing but this is left.
		uv_unref(reinterpret_cast<uv_handle_t*>(&opened->prepare));

		return opened.release();
	}

	UdpSendBatch* Get()
	{
		if (!asked)
		{
			asked = true;
			state = Open();
		}

		return state ? &state->batch : nullptr;
	}

	void Close()
	{
		if (!state)
		{
			return;
		}

		auto* closing = state;

		state = nullptr;
		closing->batch.Send();

		uv_close(reinterpret_cast<uv_handle_t*>(&closing->prepare), OnClose);
		uv_run(DepLibUV::GetLoop(), UV_RUN_NOWAIT);
	}
} // namespace mafalda::UdpSendBatchLoop
