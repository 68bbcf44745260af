// SPDX-License-Identifier: Apache-2.0
//
// The batch of this thread's event loop: what was added in an iteration is sent before the loop waits again.
// Written for Mafalda.
//
// With MAFALDA_UDP_BATCH=off in the environment there is none, and the worker sends as it does without us.

#ifndef MAFALDA_UDP_SEND_BATCH_LOOP_HPP
#define MAFALDA_UDP_SEND_BATCH_LOOP_HPP

#include "handles/UdpSendBatch.hpp"

namespace mafalda::UdpSendBatchLoop
{
	// This thread's batch, or nullptr if there is none.
	UdpSendBatch* Get();
	// Remove it from the loop, before the loop itself is closed.
	void Close();
} // namespace mafalda::UdpSendBatchLoop

#endif
