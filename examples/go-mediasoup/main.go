// A Go application with mediasoup-go: RTP comes in by UDP, and is heard on another transport of the same router.
//
//	go run . PATH_OF_WORKER
//
// With mediasoup's own worker both transports are in it; with mafalda-worker each is wherever the fleet has room. The
// code is the same. It prints one JSON object: how many packets were sent and heard, and the router's id.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"time"

	"github.com/jiyeyuran/mediasoup-go/v2"
)

const (
	packets     = 100
	payloadType = 101
	ssrc        = 1111
	patience    = 20 * time.Second
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: go-mediasoup PATH_OF_WORKER")
	}
	seen, err := run(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(seen); err != nil {
		log.Fatal(err)
	}
}

type outcome struct {
	Router string `json:"router"`
	Sent   int    `json:"sent"`
	Heard  int    `json:"heard"`
}

func run(bin string) (*outcome, error) {
	worker, err := mediasoup.NewWorker(bin, func(o *mediasoup.WorkerSettings) {
		o.LogLevel = mediasoup.WorkerLogLevelNone
	})
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	defer worker.Close()

	router, err := worker.CreateRouter(&mediasoup.RouterOptions{MediaCodecs: []*mediasoup.RtpCodecCapability{
		{Kind: mediasoup.MediaKindAudio, MimeType: "audio/opus", ClockRate: 48000, Channels: 2},
	}})
	if err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}

	// In: whoever sends RTP to this port is the remote end.
	rtcpMux := true
	incoming, err := router.CreatePlainTransport(&mediasoup.PlainTransportOptions{
		ListenInfo: mediasoup.TransportListenInfo{Protocol: mediasoup.TransportProtocolUDP, Ip: "127.0.0.1"},
		RtcpMux:    &rtcpMux,
		Comedia:    true,
	})
	if err != nil {
		return nil, fmt.Errorf("plain transport: %w", err)
	}
	producer, err := incoming.Produce(&mediasoup.ProducerOptions{
		Kind: mediasoup.MediaKindAudio,
		RtpParameters: &mediasoup.RtpParameters{
			Codecs: []*mediasoup.RtpCodecParameters{
				{MimeType: "audio/opus", PayloadType: payloadType, ClockRate: 48000, Channels: 2},
			},
			Encodings: []*mediasoup.RtpEncodingParameters{{Ssrc: ssrc}},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("producer: %w", err)
	}

	// Out: to this process itself.
	direct, err := router.CreateDirectTransport(&mediasoup.DirectTransportOptions{})
	if err != nil {
		return nil, fmt.Errorf("direct transport: %w", err)
	}
	consumer, err := direct.Consume(&mediasoup.ConsumerOptions{
		ProducerId:      producer.Id(),
		RtpCapabilities: router.RtpCapabilities(),
	})
	if err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	heard := make(chan struct{}, 10*packets)
	consumer.OnRtp(func([]byte) { heard <- struct{}{} })

	sent, err := send(incoming.Data().PlainTransportData.Tuple, heard)
	return &outcome{Router: router.Id(), Sent: sent, Heard: packets}, err
}

// send sends numbered packets until as many have been heard: the first ones may be sent before all are connected.
func send(to mediasoup.TransportTuple, heard <-chan struct{}) (int, error) {
	address := net.JoinHostPort(to.LocalAddress, fmt.Sprint(to.LocalPort))
	socket, err := net.Dial("udp", address)
	if err != nil {
		return 0, err
	}
	defer socket.Close()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for sent, count := 0, 0; ; {
		select {
		case <-tick.C:
			if _, err := socket.Write(packet(sent)); err != nil {
				return sent, err
			}
			sent++
		case <-heard:
			if count++; count == packets {
				return sent, nil
			}
		case <-deadline:
			return sent, fmt.Errorf("%d of %d packets heard within %s", count, packets, patience)
		}
	}
}

func packet(number int) []byte {
	rtp := make([]byte, 12, 32)
	rtp[0], rtp[1] = 0x80, payloadType
	binary.BigEndian.PutUint16(rtp[2:], uint16(number))
	binary.BigEndian.PutUint32(rtp[4:], uint32(number*960))
	binary.BigEndian.PutUint32(rtp[8:], ssrc)
	return append(rtp, fmt.Sprintf("packet %d", number)...)
}
