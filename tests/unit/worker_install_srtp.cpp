// SPDX-License-Identifier: Apache-2.0
//
// libsrtp 3's calls over libsrtp 2, as mediasoup-worker makes them: protect into another buffer, unprotect in
// place, forget a stream, and refuse a buffer that is too small.

#undef NDEBUG
#include <arpa/inet.h>
#include <array>
#include <cassert>
#include <cstdio>
#include <srtp.h>

static constexpr uint32_t Ssrc{ 0x12345678 };

static srtp_t createSession(srtp_profile_t profile, srtp_ssrc_type_t type)
{
	uint8_t key[SRTP_MAX_KEY_LEN];

	for (size_t i = 0; i < sizeof(key); ++i)
	{
		key[i] = static_cast<uint8_t>(i * 7);
	}

	const size_t keyLen  = srtp_profile_get_master_key_length(profile);
	const size_t saltLen = srtp_profile_get_master_salt_length(profile);
	srtp_policy_t policy{ nullptr };
	srtp_t session{ nullptr };

	assert(srtp_policy_create(&policy) == srtp_err_status_ok);
	assert(srtp_policy_set_ssrc(policy, srtp_ssrc_t{ type, 0 }) == srtp_err_status_ok);
	// A key before the profile, or of the wrong length, is refused rather than read beyond its end.
	assert(srtp_policy_add_key(policy, key, keyLen, key + keyLen, saltLen, nullptr, 0) == srtp_err_status_bad_param);
	assert(srtp_policy_set_profile(policy, profile) == srtp_err_status_ok);
	assert(
	  srtp_policy_add_key(policy, key, keyLen - 1, key + keyLen, saltLen, nullptr, 0) == srtp_err_status_bad_param);
	assert(srtp_policy_add_key(policy, key, keyLen, key + keyLen, saltLen, nullptr, 0) == srtp_err_status_ok);
	assert(srtp_policy_set_allow_repeat_tx(policy, true) == srtp_err_status_ok);
	assert(srtp_policy_set_window_size(policy, 1024) == srtp_err_status_ok);
	assert(srtp_create(&session, policy) == srtp_err_status_ok);
	srtp_policy_destroy(policy);

	return session;
}

static void carryRtp(srtp_t outbound, srtp_t inbound)
{
	std::array<uint8_t, 100> rtp{ 0x80, 96, 0, 1, 0, 0, 0, 1, 0x12, 0x34, 0x56, 0x78, 'p', 'a', 'y' };
	std::array<uint8_t, 2000> buffer{};
	const auto original = rtp;
	size_t len          = buffer.size();

	assert(srtp_protect(outbound, rtp.data(), rtp.size(), buffer.data(), &len, 0) == srtp_err_status_ok);
	assert(len > rtp.size() && rtp == original);
	// Again, as a retransmission without RTX does.
	len = buffer.size();
	assert(srtp_protect(outbound, rtp.data(), rtp.size(), buffer.data(), &len, 0) == srtp_err_status_ok);

	size_t plainLen = len;

	assert(srtp_unprotect(inbound, buffer.data(), len, buffer.data(), &plainLen) == srtp_err_status_ok);
	assert(plainLen == rtp.size() && std::memcmp(buffer.data(), rtp.data(), rtp.size()) == 0);

	len = rtp.size();
	assert(srtp_protect(outbound, rtp.data(), rtp.size(), buffer.data(), &len, 0) == srtp_err_status_buffer_small);
	assert(len == rtp.size());
}

static void carryRtcp(srtp_t outbound, srtp_t inbound)
{
	const std::array<uint8_t, 8> rtcp{ 0x80, 201, 0, 1, 0x12, 0x34, 0x56, 0x78 };
	std::array<uint8_t, 2000> buffer{};
	size_t len = buffer.size();

	assert(srtp_protect_rtcp(outbound, rtcp.data(), rtcp.size(), buffer.data(), &len, 0) == srtp_err_status_ok);

	size_t plainLen = len;

	assert(srtp_unprotect_rtcp(inbound, buffer.data(), len, buffer.data(), &plainLen) == srtp_err_status_ok);
	assert(plainLen == rtcp.size() && std::memcmp(buffer.data(), rtcp.data(), rtcp.size()) == 0);
	// The same packet again is a replay.
	assert(srtp_unprotect_rtcp(inbound, buffer.data(), len, buffer.data(), &plainLen) != srtp_err_status_ok);
}

int main()
{
	const srtp_profile_t profiles[]{ srtp_profile_aes128_cm_sha1_80,
		                               srtp_profile_aes128_cm_sha1_32,
		                               srtp_profile_aead_aes_128_gcm,
		                               srtp_profile_aead_aes_256_gcm };
	int carried = 0;

	assert(srtp_init() == srtp_err_status_ok);

	for (const auto profile : profiles)
	{
		const srtp_t outbound = createSession(profile, ssrc_any_outbound);
		const srtp_t inbound  = createSession(profile, ssrc_any_inbound);

		carryRtp(outbound, inbound);
		carryRtcp(outbound, inbound);

		// The worker gives the SSRC in network order.
		assert(srtp_stream_remove(outbound, htonl(Ssrc)) == srtp_err_status_ok);
		assert(srtp_stream_remove(outbound, htonl(Ssrc)) == srtp_err_status_no_ctx);

		assert(srtp_dealloc(outbound) == srtp_err_status_ok);
		assert(srtp_dealloc(inbound) == srtp_err_status_ok);
		++carried;
	}

	srtp_shutdown();
	std::printf("%d profiles\n", carried);
}
