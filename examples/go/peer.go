package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"mafalda/messages"

	"github.com/nats-io/nats.go"
)

const deadline = 10 * time.Second

// Event is a CloudEvent whose data has not been read yet.
type Event struct {
	ID          string          `json:"id"`
	Type        string          `json:"type"`
	CausationID string          `json:"causationid"`
	Data        json.RawMessage `json:"data"`
	Subject     string          `json:"-"`
}

// Peer is a participant of a room: it publishes intents and receives results and events.
type Peer struct {
	nats     *nats.Conn
	name     string
	subject  string
	inbox    string
	received chan *nats.Msg
	events   []Event
}

// NewPeer subscribes before anything is published, so that no answer is missed.
func NewPeer(connection *nats.Conn, room, name string) (*Peer, error) {
	subject := fmt.Sprintf("mafalda.room.%s.peer.%s", room, name)
	peer := &Peer{connection, name, subject, connection.NewInbox(), make(chan *nats.Msg, 1024), nil}
	own := []string{"live." + subject + ".result.*", "live." + subject + ".event.*", peer.inbox}
	for _, pattern := range append(own, "live.mafalda.room."+room+".event.*") {
		if _, err := connection.ChanSubscribe(pattern, peer.received); err != nil {
			return nil, err
		}
	}
	return peer, connection.Flush()
}

func (p *Peer) envelope(kind, action string, data any) (string, []byte, error) {
	random := make([]byte, 16)
	_, _ = rand.Read(random)
	id := hex.EncodeToString(random)
	raw, err := json.Marshal(map[string]any{
		"specversion": "1.0",
		"id":          id,
		"source":      "/client/" + p.name,
		"type":        fmt.Sprintf("mafalda.%s.%s.v1", kind, action),
		"subject":     fmt.Sprintf("%s.%s.%s", p.subject, kind, action),
		"time":        time.Now().UTC().Format(time.RFC3339Nano),
		"data":        data,
	})
	return id, raw, err
}

// Do publishes an intent and waits for its result. A result with secrets comes to the inbox: private waits for that one.
func (p *Peer) Do(action string, data any, private bool, result any) error {
	id, raw, err := p.envelope("intent", action, data)
	if err != nil {
		return err
	}
	message := nats.NewMsg(p.subject + ".intent." + action)
	message.Data = raw
	message.Header.Set("Nats-Msg-Id", id)
	message.Header.Set("Content-Type", "application/cloudevents+json")
	message.Header.Set("Mafalda-Reply-To", p.inbox)
	if err := p.nats.PublishMsg(message); err != nil {
		return err
	}
	for {
		event, err := p.next(deadline)
		if err != nil {
			return fmt.Errorf("%s: %w", action, err)
		}
		switch {
		case strings.Contains(event.Subject, ".event."):
			p.events = append(p.events, event) // for Next
		case event.Type == "mafalda.result.join.v1" && action == "join":
			return json.Unmarshal(event.Data, result)
		case event.CausationID != id:
		case event.Type == "mafalda.result.rejected.v1":
			var refused messages.RejectedResult
			_ = json.Unmarshal(event.Data, &refused)
			return fmt.Errorf("%s: %s: %s", action, refused.Error.Code, refused.Error.Message)
		case private == (event.Subject == p.inbox):
			if result == nil {
				return nil
			}
			return json.Unmarshal(event.Data, result)
		}
	}
}

// Room asks the peer's agent who and what is in the room.
func (p *Peer) Room() (messages.RoomSnapshotAnswer, error) {
	var room messages.RoomSnapshotAnswer
	_, raw, err := p.envelope("query", "room", map[string]any{})
	if err != nil {
		return room, err
	}
	reply, err := p.nats.Request(p.subject+".query.room", raw, deadline)
	if err != nil {
		return room, err
	}
	var event Event
	if err := json.Unmarshal(reply.Data, &event); err != nil {
		return room, err
	}
	return room, json.Unmarshal(event.Data, &room)
}

// Next is the next event of the room or of the peer's own objects.
func (p *Peer) Next() (Event, error) {
	for {
		if len(p.events) > 0 {
			event := p.events[0]
			p.events = p.events[1:]
			return event, nil
		}
		event, err := p.next(time.Hour)
		if err != nil || strings.Contains(event.Subject, ".event.") {
			return event, err
		}
	}
}

func (p *Peer) next(within time.Duration) (Event, error) {
	var event Event
	select {
	case message := <-p.received:
		event.Subject = message.Subject
		return event, json.Unmarshal(message.Data, &event)
	case <-time.After(within):
		return event, fmt.Errorf("no answer in %s", within)
	}
}
