// SPDX-License-Identifier: Apache-2.0
//
// Whether the worker batches unless its environment says otherwise. The installer writes false here if a worker does
// not carry the same media with and without the batch on the machine where it is built.

#ifndef MAFALDA_UDP_SEND_BATCH_DEFAULT_HPP
#define MAFALDA_UDP_SEND_BATCH_DEFAULT_HPP

namespace mafalda
{
	inline constexpr bool UdpSendBatchByDefault{ true };
} // namespace mafalda

#endif
