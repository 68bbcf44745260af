package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/signal"
	"time"

	"mafalda/messages"

	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
)

// stay keeps a peer in the room until Ctrl-C, its removal, or an event of the given name.
func stay(peer *Peer, what, until string, place messages.JoinResult) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, os.Interrupt)
	failed := make(chan error, 16)
	session := begin(peer, what, place, failed)
	for {
		select {
		case place := <-peer.Places: // the worker died, and all that it had is gone
			session.end()
			session = begin(peer, what, place, failed)
		case event := <-peer.Events:
			print(map[string]any{"event": event.Name, "data": event.Data})
			var left messages.PeerLeft
			if event.Name == "peer-left" && json.Unmarshal(event.Data, &left) == nil && left.Peer == peer.name {
				print(map[string]any{"removed": true})
				return nil
			}
			if event.Name == until {
				return leave(peer)
			}
			var opened messages.ProducerOpened
			if event.Name == "producer-opened" && json.Unmarshal(event.Data, &opened) == nil {
				session.opened <- messages.ProducerInfo{Producer: opened.Producer, MediaKind: opened.MediaKind}
			}
		case err := <-peer.Failed:
			return err
		case err := <-failed:
			var refused Refused
			if !errors.As(err, &refused) || refused.Code != "worker-died" { // with that code the next place comes
				return err
			}
		case <-ended:
			return leave(peer)
		}
	}
}

func leave(peer *Peer) error {
	if err := peer.Do(context.Background(), "leave", map[string]any{}, false, nil); err != nil {
		return err
	}
	print(map[string]any{"left": true})
	return nil
}

// Session is what a peer has at one place: it ends when the peer gets another one.
type Session struct {
	peer   *Peer
	place  messages.JoinResult
	opened chan messages.ProducerInfo
	end    context.CancelFunc
}

// begin opens at a place what the peer needs there, while its owner waits for events and for another place.
func begin(peer *Peer, what string, place messages.JoinResult, failed chan<- error) *Session {
	print(map[string]any{"joined": map[string]any{"server": place.Server, "worker": place.Worker, "generation": place.Generation}})
	ctx, end := context.WithCancel(context.Background())
	session := &Session{peer, place, make(chan messages.ProducerInfo, 4096), end}
	go func() {
		var err error
		switch what {
		case "publish":
			err = session.publish(ctx)
		case "receive":
			err = session.receive(ctx)
		default:
			err = session.watch(ctx)
		}
		if err != nil && ctx.Err() == nil {
			failed <- err
		}
	}()
	return session
}

// room asks who and what is in the room. Events were subscribed to before: what comes later is in them.
func (s *Session) room() (messages.RoomSnapshotAnswer, error) {
	var room messages.RoomSnapshotAnswer
	err := s.peer.Ask("room", messages.QueryRoom{}, &room)
	if err == nil {
		print(map[string]any{"room": room})
	}
	return room, err
}

// watch asks something now and then: a peer without a transport that asks for nothing has left after a minute.
func (s *Session) watch(ctx context.Context) error {
	if _, err := s.room(); err != nil {
		return err
	}
	ticker := time.NewTicker(20 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C: // without a worker there is no answer, and another place comes
			_ = s.peer.Ask("scores", map[string]any{}, &map[string]any{})
		}
	}
}

func (s *Session) open(ctx context.Context, direction messages.CreateTransportIntentDirection) (*Transport, error) {
	api, err := NewAPI(s.place.RouterRTPCapabilities)
	if err != nil {
		return nil, err
	}
	transport, err := Open(ctx, api, s.peer, s.peer.name+"-"+string(direction), direction)
	if err == nil {
		context.AfterFunc(ctx, transport.Close)
	}
	return transport, err
}

func (s *Session) publish(ctx context.Context) error {
	transport, err := s.open(ctx, messages.CreateTransportIntentDirectionSend)
	if err != nil {
		return err
	}
	track, err := transport.Publish(ctx, s.peer, s.peer.name+"-mic")
	if err != nil {
		return err
	}
	print(map[string]any{"published": s.peer.name + "-mic"})
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	silence := media.Sample{Data: []byte{0xf8, 0xff, 0xfe}, Duration: 20 * time.Millisecond}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := track.WriteSample(silence); err != nil {
				return err
			}
		}
	}
}

func (s *Session) receive(ctx context.Context) error {
	transport, err := s.open(ctx, messages.CreateTransportIntentDirectionReceive)
	if err != nil {
		return err
	}
	room, err := s.room()
	if err != nil {
		return err
	}
	for _, producer := range room.Producers {
		s.hear(ctx, transport, producer)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case producer := <-s.opened: // of one that is also in the answer: already-exists
			s.hear(ctx, transport, producer)
		}
	}
}

// hear consumes a producer of audio, and reports when it is heard.
func (s *Session) hear(ctx context.Context, transport *Transport, producer messages.ProducerInfo) {
	if producer.MediaKind != messages.MediaKindEnumAudio {
		return
	}
	track, err := transport.Receive(ctx, s.peer, producer.Producer, s.place.RouterRTPCapabilities)
	if err != nil { // it has closed meanwhile, or is consumed already
		print(map[string]any{"not-consumed": producer.Producer, "reason": err.Error()})
		return
	}
	go count(track, producer.Producer)
}

// count prints when the first 50 packets have come: one second of audio.
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
