// SPDX-License-Identifier: Apache-2.0
//
// As much of libsrtp 2's internal header as a list of streams needs.
#pragma once
#include <cstddef>
#include <cstdint>

enum srtp_err_status_t
{
	srtp_err_status_ok,
	srtp_err_status_fail,
	srtp_err_status_alloc_fail,
};

struct srtp_stream_ctx_t_
{
	uint32_t ssrc;
	srtp_stream_ctx_t_* next;
	srtp_stream_ctx_t_* prev;
};

typedef srtp_stream_ctx_t_* srtp_stream_t;
typedef struct srtp_stream_list_ctx_t_* srtp_stream_list_t;

srtp_err_status_t srtp_stream_list_alloc(srtp_stream_list_t* list_ptr);
srtp_err_status_t srtp_stream_list_dealloc(srtp_stream_list_t list);
srtp_err_status_t srtp_stream_list_insert(srtp_stream_list_t list, srtp_stream_t stream);
srtp_stream_t srtp_stream_list_get(srtp_stream_list_t list, uint32_t ssrc);
void srtp_stream_list_remove(srtp_stream_list_t list, srtp_stream_t stream);
void srtp_stream_list_for_each(srtp_stream_list_t list, int (*callback)(srtp_stream_t, void*), void* data);
