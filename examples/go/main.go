// Command room joins a room and publishes or receives audio, with pion's WebRTC.
//
//	go run . nats://127.0.0.1:4222 ROOM PEER publish           sends Opus silence until Ctrl-C
//	go run . nats://127.0.0.1:4222 ROOM PEER receive [EVENT]   receives every audio producer, prints each event
//
// It prints one JSON object a line. A receiver leaves after the first event of the given name, such as producer-paused.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"mafalda/messages"

	"github.com/nats-io/nats.go"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
)

func main() {
	if len(os.Args) < 5 || (os.Args[4] != "publish" && os.Args[4] != "receive") {
		fmt.Fprintln(os.Stderr, "usage: room NATS_URL ROOM PEER publish|receive [EVENT]")
		os.Exit(2)
	}
	until := ""
	if len(os.Args) > 5 {
		until = os.Args[5]
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4], until); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(url, room, name, what, until string) error {
	connection, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer connection.Close()
	peer, err := NewPeer(connection, room, name)
	if err != nil {
		return err
	}
	var place messages.JoinResult
	join := messages.JoinIntent{AppData: map[string]any{"language": "Go"}}
	if err := peer.Do("join", join, false, &place); err != nil {
		return err
	}
	print(map[string]any{"joined": map[string]any{"server": place.Server, "worker": place.Worker, "generation": place.Generation}})
	api, err := NewAPI(place.RouterRTPCapabilities)
	if err != nil {
		return err
	}
	transport, err := Open(api, peer, name+"-"+what)
	if err != nil {
		return err
	}
	if what == "publish" {
		err = publish(peer, transport)
	} else {
		err = receive(peer, transport, place.RouterRTPCapabilities, until)
	}
	if err != nil {
		return err
	}
	if err := peer.Do("leave", map[string]any{}, false, nil); err != nil {
		return err
	}
	print(map[string]any{"left": true})
	return nil
}

func publish(peer *Peer, transport *Transport) error {
	track, err := transport.Publish(peer, peer.name+"-mic")
	if err != nil {
		return err
	}
	print(map[string]any{"published": peer.name + "-mic"})
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, os.Interrupt)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	silence := media.Sample{Data: []byte{0xf8, 0xff, 0xfe}, Duration: 20 * time.Millisecond}
	for {
		select {
		case <-ended:
			return nil
		case <-ticker.C:
			if err := track.WriteSample(silence); err != nil {
				return err
			}
		}
	}
}

func receive(peer *Peer, transport *Transport, capabilities messages.RTPCapabilities, until string) error {
	room, err := peer.Room()
	if err != nil {
		return err
	}
	print(map[string]any{"room": room})
	for _, producer := range room.Producers {
		if producer.MediaKind == messages.Audio {
			if err := hear(peer, transport, producer.Producer, capabilities); err != nil {
				return err
			}
		}
	}
	for {
		event, err := peer.Next()
		if err != nil {
			return err
		}
		name := event.Subject[strings.LastIndex(event.Subject, ".")+1:]
		print(map[string]any{"event": name, "data": event.Data})
		if name == until {
			return nil
		}
		var opened messages.ProducerOpened
		if name == "producer-opened" && json.Unmarshal(event.Data, &opened) == nil && opened.MediaKind == messages.Audio {
			if err := hear(peer, transport, opened.Producer, capabilities); err != nil {
				return err
			}
		}
	}
}

// hear consumes a producer, and prints when its first 50 packets have come: one second of audio.
func hear(peer *Peer, transport *Transport, producer string, capabilities messages.RTPCapabilities) error {
	track, err := transport.Receive(peer, producer, capabilities)
	if err != nil {
		return err
	}
	go count(track, producer)
	return nil
}

func count(track *webrtc.TrackRemote, producer string) {
	for packets := 1; ; packets++ {
		if _, _, err := track.ReadRTP(); err != nil {
			return
		}
		if packets == 50 {
			print(map[string]any{"heard": producer, "packets": packets})
		}
	}
}

func print(line map[string]any) {
	raw, _ := json.Marshal(line)
	fmt.Println(string(raw))
}
