package main

import (
	"context"
	"strconv"
	"strings"

	"mafalda/messages"

	"github.com/pion/webrtc/v4"
)

// Transport is a WebRTC transport to the peer's worker, as ORTC has it: no SDP.
type Transport struct {
	ID   string
	api  *webrtc.API
	ice  *webrtc.ICETransport
	dtls *webrtc.DTLSTransport
}

// NewAPI returns a pion API that knows the codecs of the room's router, under the router's payload types.
func NewAPI(capabilities messages.RTPCapabilities) (*webrtc.API, error) {
	engine := &webrtc.MediaEngine{}
	for _, codec := range capabilities.Codecs {
		if strings.EqualFold(codec.MIMEType, webrtc.MimeTypeOpus) {
			parameters := webrtc.RTPCodecParameters{
				RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: codec.MIMEType, ClockRate: 48000, Channels: 2},
				PayloadType:        webrtc.PayloadType(*codec.PreferredPayloadType),
			}
			if err := engine.RegisterCodec(parameters, webrtc.RTPCodecTypeAudio); err != nil {
				return nil, err
			}
		}
	}
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	return webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(settings)), nil
}

// Open creates a transport at the peer's worker and connects it by ICE and DTLS.
func Open(ctx context.Context, api *webrtc.API, peer *Peer, id string, direction messages.CreateTransportIntentDirection) (*Transport, error) {
	gatherer, err := api.NewICEGatherer(webrtc.ICEGatherOptions{})
	if err != nil {
		return nil, err
	}
	ice := api.NewICETransport(gatherer)
	dtls, err := api.NewDTLSTransport(ice, nil)
	if err != nil {
		return nil, err
	}
	var remote messages.TransportResult
	intent := messages.CreateTransportIntent{Transport: id, Direction: &direction}
	if err := peer.Do(ctx, "create-transport", intent, true, &remote); err != nil {
		return nil, err
	}
	local, err := dtls.GetLocalParameters()
	if err != nil {
		return nil, err
	}
	client := messages.RoleClient
	parameters := messages.DtlsParameters{Role: &client}
	for _, fingerprint := range local.Fingerprints {
		algorithm := messages.Algorithm(fingerprint.Algorithm)
		parameters.Fingerprints = append(parameters.Fingerprints, messages.DtlsFingerprint{Algorithm: algorithm, Value: fingerprint.Value})
	}
	connect := messages.ConnectTransportIntent{Transport: id, DtlsParameters: parameters}
	if err := peer.Do(ctx, "connect-transport", connect, false, nil); err != nil {
		return nil, err
	}
	return &Transport{id, api, ice, dtls}, start(gatherer, ice, dtls, remote)
}

// Close ends what this side has; at a dead worker there is nothing to close.
func (t *Transport) Close() {
	_ = t.dtls.Stop()
	_ = t.ice.Stop()
}

func start(gatherer *webrtc.ICEGatherer, ice *webrtc.ICETransport, dtls *webrtc.DTLSTransport, remote messages.TransportResult) error {
	gathered := make(chan struct{})
	gatherer.OnLocalCandidate(func(candidate *webrtc.ICECandidate) {
		if candidate == nil {
			close(gathered)
		}
	})
	if err := gatherer.Gather(); err != nil {
		return err
	}
	<-gathered
	var candidates []webrtc.ICECandidate
	for _, candidate := range remote.IceCandidates {
		if candidate.Protocol == messages.ProtocolUDP {
			candidates = append(candidates, webrtc.ICECandidate{
				Foundation: candidate.Foundation, Priority: uint32(candidate.Priority), Address: candidate.IP,
				Protocol: webrtc.ICEProtocolUDP, Port: uint16(candidate.Port), Typ: webrtc.ICECandidateTypeHost, Component: 1,
			})
		}
	}
	if err := ice.SetRemoteCandidates(candidates); err != nil {
		return err
	}
	controlling := webrtc.ICERoleControlling
	credentials := webrtc.ICEParameters{
		UsernameFragment: remote.IceParameters.UsernameFragment, Password: remote.IceParameters.Password, ICELite: true,
	}
	if err := ice.Start(nil, credentials, &controlling); err != nil {
		return err
	}
	server := webrtc.DTLSParameters{Role: webrtc.DTLSRoleServer}
	for _, fingerprint := range remote.DtlsParameters.Fingerprints {
		if fingerprint.Algorithm == messages.AlgorithmSHA256 {
			server.Fingerprints = append(server.Fingerprints, webrtc.DTLSFingerprint{
				Algorithm: string(fingerprint.Algorithm), Value: strings.ToLower(fingerprint.Value),
			})
		}
	}
	return dtls.Start(server)
}

// Publish opens a producer for an Opus track and returns the track to write to.
func (t *Transport) Publish(ctx context.Context, peer *Peer, producer string) (*webrtc.TrackLocalStaticSample, error) {
	capability := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}
	track, err := webrtc.NewTrackLocalStaticSample(capability, producer, peer.name)
	if err != nil {
		return nil, err
	}
	sender, err := t.api.NewRTPSender(track, t.dtls)
	if err != nil {
		return nil, err
	}
	sending := sender.GetParameters()
	channels, ssrc, mid := int64(2), int64(sending.Encodings[0].SSRC), strconv.Itoa(0)
	intent := messages.ProduceIntent{
		Producer: producer, Transport: t.ID, MediaKind: messages.MediaKindEnumAudio,
		RTPParameters: messages.RTPParameters{
			Mid: &mid,
			Codecs: []messages.RTPCodecParameters{{
				MIMEType: "audio/opus", ClockRate: 48000, Channels: &channels, PayloadType: int64(sending.Codecs[0].PayloadType),
			}},
			Encodings: []messages.RTPEncodingParameters{{Ssrc: &ssrc}},
		},
	}
	if err := peer.Do(ctx, "produce", intent, false, nil); err != nil {
		return nil, err
	}
	return track, sender.Send(sending)
}

// Receive consumes a producer and returns the track to read from.
func (t *Transport) Receive(ctx context.Context, peer *Peer, producer string, capabilities messages.RTPCapabilities) (*webrtc.TrackRemote, error) {
	intent := messages.ConsumeIntent{
		Consumer: peer.name + "-" + producer, Transport: t.ID, Producer: producer, RTPCapabilities: capabilities,
	}
	var consumer messages.ConsumeResult
	if err := peer.Do(ctx, "consume", intent, false, &consumer); err != nil {
		return nil, err
	}
	receiver, err := t.api.NewRTPReceiver(webrtc.RTPCodecTypeAudio, t.dtls)
	if err != nil {
		return nil, err
	}
	encoding := consumer.RTPParameters.Encodings[0]
	coding := webrtc.RTPCodingParameters{
		SSRC: webrtc.SSRC(*encoding.Ssrc), PayloadType: webrtc.PayloadType(consumer.RTPParameters.Codecs[0].PayloadType),
	}
	parameters := webrtc.RTPReceiveParameters{Encodings: []webrtc.RTPDecodingParameters{{RTPCodingParameters: coding}}}
	if err := receiver.Receive(parameters); err != nil {
		return nil, err
	}
	// A consumer starts paused, so that nothing is sent before the client is ready.
	resume := messages.ResumeConsumerIntent{Consumer: consumer.Consumer}
	return receiver.Track(), peer.Do(ctx, "resume-consumer", resume, false, nil)
}
