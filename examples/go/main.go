// Command room takes part in a room: it watches, moderates, publishes or receives audio, with pion's WebRTC.
//
//	export MAFALDA_TOKEN=...                               a participant's token; none for an open fleet
//	go run . NATS_URL ROOM PEER publish                    sends Opus silence until Ctrl-C
//	go run . NATS_URL ROOM PEER receive [EVENT]            receives every audio producer, prints each event
//	go run . NATS_URL ROOM PEER watch [EVENT]              only prints each event
//	go run . NATS_URL ROOM PEER mute OTHER PRODUCER        pauses a producer of another peer ("moderate" is granted)
//	go run . NATS_URL ROOM PEER remove OTHER               removes another peer from the room ("moderate" is granted)
//
// It prints one JSON object a line. With an EVENT, such as producer-paused, it leaves after the first one of that name.
// After the death of its worker, or of NATS, it goes on where it is placed then.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"mafalda/messages"
)

func main() {
	words := map[string]int{"publish": 0, "receive": 0, "watch": 0, "mute": 2, "remove": 1}
	if len(os.Args) < 5 {
		usage()
	}
	needed, ok := words[os.Args[4]]
	if !ok || len(os.Args) < 5+needed {
		usage()
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: room NATS_URL ROOM PEER publish | receive [EVENT] | watch [EVENT] | mute OTHER PRODUCER | remove OTHER")
	os.Exit(2)
}

func run(url, room, name, what string, words []string) error {
	token := os.Getenv("MAFALDA_TOKEN")
	if what == "mute" || what == "remove" {
		return moderate(url, token, room, name, what, words)
	}
	peer, err := Connect(url, token, room, name)
	if err != nil {
		return err
	}
	defer peer.nats.Close()
	place, err := peer.Join(map[string]any{"language": "Go"})
	if err != nil {
		return err
	}
	until := ""
	if len(words) > 0 {
		until = words[0]
	}
	return stay(peer, what, until, place)
}

// moderate needs no place in the room: it publishes another peer's intent, and reads its result.
func moderate(url, token, room, name, what string, words []string) error {
	action, data := "leave", any(map[string]any{})
	if what == "mute" {
		action, data = "pause-producer", messages.PauseProducerIntent{Producer: words[1]}
	}
	peer, err := Connect(url, token, room, name, "live.mafalda.room."+room+".peer."+words[0]+".result."+action)
	if err != nil {
		return err
	}
	defer peer.nats.Close()
	if err := peer.Moderate(context.Background(), words[0], action, data); err != nil {
		return err
	}
	print(map[string]any{what: words})
	return nil
}

func print(line map[string]any) {
	raw, _ := json.Marshal(line)
	fmt.Println(string(raw))
}
